"""CLIP's vision transformer cut in two: a frozen trunk, whose output is cached, and a tail that runs from it.

Shapes: B images, T tokens = 1 CLS + G patches, W vision width, E joint width, H heads, C channels per head.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.kernels.drop_ins import product_of
from fsgr_model.runtime.errors import UserError

Align = Literal["plain", "csa", "qk_kk", "value"]


class TailOutput(NamedTuple):
    """What the captioner sees of an image; nothing is normalised.

    `grid_BGW`: patch tokens after the last block, without the final layer norm.
    `global_BE`: the image embedding, equal to open_clip's `encode_image`.
    `align_BGE`: patch tokens in the joint space, from the last block run as `align` says.
    """

    grid_BGW: torch.Tensor
    global_BE: torch.Tensor
    align_BGE: torch.Tensor


class Trunk(nn.Module):
    """Blocks below `cut`: float32 images [B, 3, height, width] -> tokens_BTW entering block `cut`."""

    def __init__(self, clip_model: nn.Module, cut: int) -> None:
        super().__init__()
        self.visual = vision_tower(clip_model, cut)
        self.cut = cut

    @property
    def token_shape(self) -> tuple[int, int]:
        """(T, W) of one image's tokens."""
        positions: Any = self.visual.positional_embedding
        return tuple(positions.shape)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens_BTW = self.visual._embeds(images)
        return run_blocks(self.visual.transformer.resblocks[: self.cut], tokens_BTW)


class Tail(nn.Module):
    """Blocks from `cut` on, final layer norm, projection: the weights of `clip_model` itself, frozen here.

    `align` chooses how the last block makes the aligned patch features: `plain` attention, `csa` (correlative
    self-attention, SCLIP, arXiv 2312.01597), `qk_kk` (half plain, half correlative: a choice of ours) or
    `value` (each token's own value, MaskCLIP, arXiv 2112.01071).
    """

    def __init__(self, clip_model: nn.Module, cut: int, align: Align) -> None:
        super().__init__()
        visual = vision_tower(clip_model, cut)
        self.blocks = visual.transformer.resblocks[cut:]
        self.ln_post = visual.ln_post
        self.proj = visual.proj
        self.pool_type: str = visual.pool_type
        self.norm_after_pool: bool = visual.final_ln_after_pool
        self.grid_size: tuple[int, int] = visual.grid_size
        self.patch_size: tuple[int, int] = visual.patch_size
        self.align = align
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Tail":
        """Stay in evaluation mode: nothing here is trained, whatever mode the network around it has."""
        return super().train(False)

    def forward(self, tokens_BTW: torch.Tensor) -> TailOutput:
        """From the cache (float16 or float32) to the three outputs, in the precision of the weights."""
        before_BTW = self._before_last(tokens_BTW)
        last_BTW = run_block(self.blocks[-1], before_BTW)
        aligned_BTW = (
            last_BTW if self.align == "plain" else run_block(self.blocks[-1], before_BTW, self.align)
        )
        return self.outputs(last_BTW, aligned_BTW)

    def outputs(self, last_BTW: torch.Tensor, aligned_BTW: torch.Tensor) -> TailOutput:
        """From the tokens after the last block, and after the last block run as `align` says."""
        return TailOutput(last_BTW[:, 1:], self._pool(last_BTW), self._project(aligned_BTW[:, 1:]))

    def aligned(self, tokens_BTW: torch.Tensor) -> torch.Tensor:
        """Only `align_BGE`: the last block runs once."""
        last_BTW = run_block(self.blocks[-1], self._before_last(tokens_BTW), self.align)
        return self._project(last_BTW[:, 1:])

    def last_keys(self, tokens_BTW: torch.Tensor) -> torch.Tensor:
        """Keys of the patches in the last block, heads concatenated: [B, G, W]."""
        block = self.blocks[-1]
        _, key_BTW, _ = query_key_value(block.attn, block.ln_1(self._before_last(tokens_BTW)))
        return key_BTW[:, 1:]

    def _before_last(self, tokens_BTW: torch.Tensor) -> torch.Tensor:
        return run_blocks(self.blocks[:-1], tokens_BTW.to(self.proj.dtype))

    def _pool(self, tokens_BTW: torch.Tensor) -> torch.Tensor:
        if self.pool_type == "tok":
            return self._project(tokens_BTW[:, 0])
        if self.norm_after_pool:
            return self._project(tokens_BTW[:, 1:].mean(dim=1))
        return self._project(tokens_BTW[:, 1:]).mean(dim=1)

    def _project(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.ln_post(tokens) @ self.proj


def run_blocks(
    blocks: Iterable[Any], x_BTW: torch.Tensor, mask_TT: torch.Tensor | None = None
) -> torch.Tensor:
    """Plain blocks, one after the other; equal to open_clip's own forward."""
    for block in blocks:
        x_BTW = run_block(block, x_BTW, mask_TT=mask_TT)
    return x_BTW


def run_block(
    block: Any,
    x_BTW: torch.Tensor,
    attention: Align = "plain",
    adapter: Callable[[torch.Tensor], torch.Tensor] | None = None,
    *,
    mask_TT: torch.Tensor | None = None,
) -> torch.Tensor:
    """One pre-norm residual block; only its attention branch depends on `attention`, and passes `adapter`.

    `mask_TT` is added to the logits of plain attention.
    """
    branch_BTW = block.ls_1(_attend(block.attn, block.ln_1(x_BTW), attention, mask_TT))
    x_BTW = x_BTW + (branch_BTW if adapter is None else adapter(branch_BTW))
    return x_BTW + block.ls_2(block.mlp(block.ln_2(x_BTW)))


def _attend(
    layer: nn.MultiheadAttention, x_BTW: torch.Tensor, attention: Align, mask_TT: torch.Tensor | None
) -> torch.Tensor:
    query_BTW, key_BTW, value_BTW = query_key_value(layer, x_BTW)
    if attention == "value":
        return project_out(layer, value_BTW)
    if attention == "plain":
        return project_out(layer, mix_values(query_BTW, key_BTW, value_BTW, layer.num_heads, mask=mask_TT))
    return project_out(
        layer, correlative_attention(query_BTW, key_BTW, value_BTW, layer.num_heads, attention=attention)
    )


def correlative_attention(
    query_BTW: torch.Tensor,
    key_BTW: torch.Tensor,
    value_BTW: torch.Tensor,
    heads: int,
    *,
    attention: Align,
) -> torch.Tensor:
    """(softmax(Q Aᵀ s) + softmax(K Kᵀ s)) V per head with s = 1/sqrt(C); rows of weights sum to 2.

    A is what the queries are compared with: the queries themselves (`csa`: SCLIP, arXiv 2312.01597, section
    3.2) or the keys (`qk_kk`).
    """
    asked_BTW = query_BTW if attention == "csa" else key_BTW
    return mix_values(query_BTW, asked_BTW, value_BTW, heads) + mix_values(key_BTW, key_BTW, value_BTW, heads)


def mix_values(
    query_BQW: torch.Tensor,
    key_BTW: torch.Tensor,
    value_BTW: torch.Tensor,
    heads: int,
    *,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """softmax(Q Kᵀ / sqrt(C) + mask) V, per head; the heads are concatenated: [B, Q, W]."""
    # nn.MultiheadAttention computes the same from copies of queries, keys and values.
    query, key, value = (
        x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query_BQW, key_BTW, value_BTW)
    )
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)


def query_key_value(layer: nn.MultiheadAttention, x_BTW: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Projected queries, keys and values, heads concatenated."""
    return product_of(layer)(x_BTW, layer.in_proj_weight, layer.in_proj_bias).chunk(3, dim=-1)


def project_out(layer: nn.MultiheadAttention, mixed_BTW: torch.Tensor) -> torch.Tensor:
    """The output projection of an attention layer."""
    return product_of(layer)(mixed_BTW, layer.out_proj.weight, layer.out_proj.bias)


def vision_tower(clip_model: nn.Module, cut: int) -> Any:
    """The model's vision transformer, if it can be cut at block `cut`.

    Raises:
        UserError: it is not a plain VisionTransformer, pools by attention, or has no block after the cut.
    """
    visual: Any = clip_model.visual
    if not isinstance(visual, open_clip.transformer.VisionTransformer):
        raise UserError(f"clip.model must have open_clip's VisionTransformer, found {type(visual).__name__}")
    if visual.attn_pool is not None or visual.pool_type not in ("tok", "avg"):
        raise UserError(
            "clip.model pools by attention, which has no patch features; use pool_type tok or avg"
        )
    blocks = visual.transformer.resblocks
    if not isinstance(blocks[0], open_clip.transformer.ResidualAttentionBlock):
        raise UserError(
            f"clip.model has {type(blocks[0]).__name__} blocks; use an architecture with plain ones"
        )
    if not 0 <= cut < len(blocks):
        raise UserError(
            f"clip.cut {cut} leaves no block to the tail of a model with {len(blocks)} blocks; "
            f"use 0 to {len(blocks) - 1}"
        )
    return visual
