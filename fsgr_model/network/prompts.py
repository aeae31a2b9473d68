"""Prompts: trained tokens that frozen transformer blocks attend to (VPT, arXiv 2203.12119).

Shapes: B images, P prompts per block, N blocks, W vision width.
"""

import math

import torch
from torch import Tensor, nn


class LatePrompts(nn.Module):
    """VPT-deep (section 3.2, eq. 5) for the last N blocks only: each has P prompts of its own.

    The blocks below never see a prompt, so their output can be cached. All share one projection. VPT's
    initialisation: uniform vectors, Kaiming normal for the projection. Prompts have no position embedding.
    A choice: no layer norm of their own over the final tokens, which CLIP's own norm follows anyway.
    """

    def __init__(
        self, blocks: int, *, prompts: int, width: int, patch_size: tuple[int, int], dropout: float
    ) -> None:
        super().__init__()
        bound = math.sqrt(6 / (3 * math.prod(patch_size) + width))
        self.vectors_NPW = nn.Parameter(torch.empty(blocks, prompts, width).uniform_(-bound, bound))
        self.projection = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.kaiming_normal_(self.projection.weight, mode="fan_out")

    @torch.no_grad()
    def set_prompts(self, vectors_NPW: Tensor) -> None:
        """Use these vectors as the prompts; the projection becomes the identity."""
        self.vectors_NPW.copy_(vectors_NPW)
        nn.init.eye_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, block: int, images: int) -> Tensor:
        """The prompts of a block for a number of images, [B, P, W]; each image has its own dropout mask."""
        return self.dropout(self.projection(self.vectors_NPW[block]).expand(images, -1, -1))
