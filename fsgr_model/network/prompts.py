"""Prompts: trained tokens that frozen transformer blocks attend to (VPT, arXiv 2203.12119).

Shapes: B images, T tokens = 1 CLS + G patches, P prompts of a block, N blocks, W vision width.
"""

import math

import torch
from torch import Tensor, nn

from fsgr_model.network.dropout import Dropout


class LatePrompts(nn.Module):
    """VPT-deep (section 3.2, eq. 5) for the last N blocks only: each has P prompts of its own.

    What is below those blocks never sees a prompt and can be cached. One projection serves all blocks. VPT's
    initialisation: uniform vectors, Kaiming normal for the projection. Prompts have no position embedding.
    A choice: no layer norm of their own over the final tokens, which CLIP's own norm follows anyway.
    """

    def __init__(
        self, blocks: int, prompts: int, width: int, patch_size: tuple[int, int], dropout: float
    ) -> None:
        super().__init__()
        bound = math.sqrt(6 / (3 * math.prod(patch_size) + width))
        self.vectors_NPW = nn.Parameter(torch.empty(blocks, prompts, width).uniform_(-bound, bound))
        self.projection = nn.Linear(width, width)
        self.dropout = Dropout(dropout)
        nn.init.kaiming_normal_(self.projection.weight, mode="fan_out")

    def insert(self, block: int, tokens_BTW: Tensor) -> Tensor:
        """The prompts of a block between CLS and patches: [B, 1 + P + G, W]."""
        prompt_BPW = self.projection(self.vectors_NPW[block]).expand(len(tokens_BTW), -1, -1)
        prompt_BPW = self.dropout(prompt_BPW).to(tokens_BTW.dtype)
        return torch.cat([tokens_BTW[:, :1], prompt_BPW, tokens_BTW[:, 1:]], dim=1)

    def remove(self, tokens: Tensor) -> Tensor:
        """What the block made of CLS and patches: [B, 1 + P + G, W] -> [B, T, W]."""
        return torch.cat([tokens[:, :1], tokens[:, 1 + self.vectors_NPW.shape[1] :]], dim=1)
