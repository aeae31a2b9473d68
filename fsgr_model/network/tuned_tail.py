"""CLIP's frozen tail with what FSGR trains inside it: adapters and prompts in every block.

Shapes: B images, T tokens = 1 CLS + G patches, P prompts per block, W vision width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from fsgr_model.clip.resnet import ResNetTail
from fsgr_model.clip.split import Tail, TailOutput, mix_values, project_out, query_key_value, run_block
from fsgr_model.clip.towers import AnyTail
from fsgr_model.config.model_params import ModelParams
from fsgr_model.kernels.drop_ins import product_of
from fsgr_model.network.adapters import Adapter
from fsgr_model.network.prompts import LatePrompts
from fsgr_model.runtime.errors import UserError


class TunedTail(nn.Module):
    """The tail's blocks, each with its adapter and among its prompts. Give at least one of the two.

    A block's outputs for its prompts would be dropped, since the next block has prompts of its own, so they
    are never computed: prompts give keys and values but no queries. The tokens between blocks and the three
    outputs belong to CLS and patches, as without prompts.

    Choices, where the sources are silent: the aligned features run the last block with its adapter, which
    belongs to the block and so learns from the quantiser too, and without its prompts. Correlative attention
    relates positions of the image and CLS, and prompts have no position; with plain attention prompts, which
    start at random, would move the patches away from the concepts that CLIP finds in them.
    """

    def __init__(self, frozen: Tail, adapters: nn.ModuleList | None, prompts: LatePrompts | None) -> None:
        super().__init__()
        self.frozen = frozen
        self.adapters = adapters
        self.prompts = prompts

    def forward(self, tokens_BTW: Tensor) -> TailOutput:
        """From the cache to the three outputs of `Tail`, with gradients for adapters and prompts."""
        frozen, last = self.frozen, len(self.frozen.blocks) - 1
        tokens_BTW = tokens_BTW.to(frozen.proj.dtype)
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
        prompt_BPW = self.prompts(number, len(tokens_BTW)).to(tokens_BTW.dtype)
        return run_prompted_block(block, tokens_BTW, prompt_BPW, adapter)

    def _adapter(self, number: int) -> nn.Module | None:
        return None if self.adapters is None else self.adapters[number]


def run_prompted_block(
    block: Any, tokens_BTW: Tensor, prompt_BPW: Tensor, adapter: nn.Module | None
) -> Tensor:
    """The output of `run_block` for CLS and patches with prompts among them, without the prompts' rows."""
    mixed_BTW = _attend_to_prompts_too(block.attn, block.ln_1(tokens_BTW), block.ln_1(prompt_BPW))
    branch_BTW = block.ls_1(mixed_BTW)
    tokens_BTW = tokens_BTW + (branch_BTW if adapter is None else adapter(branch_BTW))
    return tokens_BTW + block.ls_2(block.mlp(block.ln_2(tokens_BTW)))


def _attend_to_prompts_too(layer: nn.MultiheadAttention, x_BTW: Tensor, prompt_BPW: Tensor) -> Tensor:
    W = x_BTW.shape[-1]
    query, key, value = query_key_value(layer, x_BTW)
    weight, bias = layer.in_proj_weight[W:], layer.in_proj_bias[W:]
    prompt_key, prompt_value = product_of(layer)(prompt_BPW, weight, bias).chunk(2, dim=-1)
    # Attention does not see an order: the prompts may come after the patches.
    key, value = torch.cat([key, prompt_key], dim=1), torch.cat([value, prompt_value], dim=1)
    return project_out(layer, mix_values(query, key, value, layer.num_heads))


def tuned(tail: AnyTail, params: ModelParams) -> AnyTail | TunedTail:
    """The tail with the adapters and prompts that `params` asks for; `tail` itself where it asks for none."""
    if params.tail is None:
        return tail
    if isinstance(tail, ResNetTail):
        raise UserError(
            "model.tail trains inside the blocks of a vision transformer, and a ResNet has none; "
            "set model.tail: null"
        )
    blocks, width = len(tail.blocks), tail.proj.shape[0]
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
