"""CLIP's frozen tail with what FSGR trains inside it: adapters and prompts in every block.

Shapes: B images, T tokens = leading ones (a class token, or none) + G patches, N blocks, P prompts per block,
W vision width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsgr_model.clip.split import Tail, TailOutput
from fsgr_model.clip.towers import AnyTail
from fsgr_model.clip.vit import Block, add_branches, mix_values, run_block
from fsgr_model.config.model_params import ModelParams
from fsgr_model.runtime.errors import UserError

BOTTLENECK = 0.25


class Adapter(nn.Module):
    """A(z) = z + W2 GELU(W1 z + b1) + b2, a bottleneck of a quarter of the width (AIM, arXiv 2302.03024,
    section 3.2).

    Only W1 starts away from zero (truncated normal, deviation 0.02), so A starts as the identity and the
    network as plain CLIP. AIM has three adapters per block; FSGR has the one after the attention.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, int(BOTTLENECK * width))
        self.up = nn.Linear(self.down.out_features, width)
        nn.init.trunc_normal_(self.down.weight, std=0.02)
        for weight in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(weight)

    def forward(self, z: Tensor) -> Tensor:
        """[..., W] -> [..., W]"""
        return z + self.up(F.gelu(self.down(z)))


class LatePrompts(nn.Module):
    """VPT-deep (section 3.2, eq. 5) for the last N blocks only: each has P prompts of its own.

    What is below those blocks never sees a prompt and can be cached. One projection serves all blocks. VPT's
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
        """The prompts of a block, [B, P, W] for so many images; dropout falls on each image its own way."""
        return self.dropout(self.projection(self.vectors_NPW[block]).expand(images, -1, -1))


class TunedTail(nn.Module):
    """The tail's blocks, each with its adapter and among its prompts. Give at least one of the two.

    A block's outputs for its prompts would be dropped, since the next block has prompts of its own, so they
    are never computed: prompts give keys and values but no queries. The tokens between blocks and the three
    outputs belong to the leading tokens and the patches, as without prompts.

    Choices, where the sources are silent: the aligned features run the last block with its adapter, which
    belongs to the block and so learns from the quantiser too, and without its prompts. Correlative attention
    relates positions of the image (and a class token), and prompts have no position; with plain attention
    prompts, which start at random, would move the patches away from the concepts that CLIP finds in them.
    """

    def __init__(self, frozen: Tail, adapters: nn.ModuleList | None, prompts: LatePrompts | None) -> None:
        super().__init__()
        self.frozen = frozen
        self.adapters = adapters
        self.prompts = prompts

    def forward(self, tokens_BTW: Tensor) -> TailOutput:
        """From the cache to the three outputs of `Tail`, with gradients for adapters and prompts."""
        frozen, last = self.frozen, len(self.frozen.blocks) - 1
        tokens_BTW = tokens_BTW.to(frozen.dtype)
        for number in range(last):
            tokens_BTW = self._prompted(number, tokens_BTW)
        last_BTW = self._prompted(last, tokens_BTW)
        if frozen.align == "plain" and self.prompts is None:
            return frozen.outputs(last_BTW, last_BTW)
        aligned_BTW = run_block(frozen.blocks[last], tokens_BTW, frozen.align, self._adapter(last))
        return frozen.outputs(last_BTW, aligned_BTW)

    def _prompted(self, number: int, tokens_BTW: Tensor) -> Tensor:
        """One block of plain attention, with its prompts."""
        block, adapter = self.frozen.blocks[number], self._adapter(number)
        if self.prompts is None:
            return run_block(block, tokens_BTW, adapter=adapter)
        prompt_BPW = self.prompts(number, tokens_BTW.shape[0]).to(tokens_BTW.dtype)
        return run_prompted_block(block, tokens_BTW, prompt_BPW, adapter)

    def _adapter(self, number: int) -> nn.Module | None:
        return None if self.adapters is None else self.adapters[number]


def run_prompted_block(
    block: Block, tokens_BTW: Tensor, prompt_BPW: Tensor, adapter: nn.Module | None
) -> Tensor:
    """The output of `run_block` for all T tokens, with prompts among them and without their rows."""
    query, key, value = block.query_key_value(tokens_BTW)
    prompt_key, prompt_value = block.prompt_key_value(prompt_BPW)
    # Attention does not see an order: the prompts may come after the patches.
    key, value = torch.cat([key, prompt_key], dim=1), torch.cat([value, prompt_value], dim=1)
    branch_BTW = block.branch(mix_values(query, key, value, block.num_heads))
    return add_branches(block, tokens_BTW, branch_BTW, adapter)


def tuned(tail: AnyTail, params: ModelParams) -> AnyTail | TunedTail:
    """The tail with the adapters and prompts that `params` asks for; `tail` itself where it asks for none."""
    if params.tail is None:
        return tail
    if not isinstance(tail, Tail):
        raise UserError(
            "model.tail trains inside the blocks of a vision transformer, and this CLIP has none; "
            "set model.tail: null"
        )
    blocks, width = len(tail.blocks), tail.width
    adapters = nn.ModuleList(Adapter(width) for _ in range(blocks)) if params.tail.adapters else None
    prompts = (
        LatePrompts(
            blocks,
            prompts=params.tail.prompts,
            width=width,
            patch_size=tail.patch_size,
            dropout=params.dropout,
        )
        if params.tail.prompts
        else None
    )
    return TunedTail(tail, adapters, prompts)
