"""timm's Eva: EVA (arXiv 2211.07636), EVA-02 (arXiv 2303.11331) and PE-Core (arXiv 2504.13181).

All but the first have rotary positions.

Shapes: as in `vit`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from fsgr_model.clip.timm_vit import TimmHead, check_form, norm_heads, timm_parts
from fsgr_model.clip.vit import Block, Vit


class EvaBlock(Block):
    """timm's EvaBlock. Patches are rotated by their place; leading tokens and prompts have none."""

    def __init__(self, layer: Any, rope: nn.Module | None) -> None:
        super().__init__()
        self.layer = layer
        self.rope: Any = rope
        self.num_heads = layer.attn.num_heads

    def query_key_value(self, x_BTW: Tensor) -> tuple[Tensor, ...]:
        query, key, value = self._projected(x_BTW)
        return self._rotate(query), self._rotate(key), value

    def prompt_key_value(self, prompt_BPW: Tensor) -> tuple[Tensor, ...]:
        return self._projected(prompt_BPW)[1:]

    def branch(self, mixed_BTW: Tensor) -> Tensor:
        attn = self.layer.attn
        return _scaled(self.layer.gamma_1, attn.proj(attn.norm(mixed_BTW)))

    def feed_forward(self, x_BTW: Tensor) -> Tensor:
        return _scaled(self.layer.gamma_2, self.layer.mlp(self.layer.norm2(x_BTW)))

    def _before(self, x_BTW: Tensor) -> Tensor:
        return self.layer.norm1(x_BTW)

    def _projected(self, x_BTW: Tensor) -> tuple[Tensor, ...]:
        attn, x_BTW = self.layer.attn, self._before(x_BTW)
        if attn.qkv is None:
            query, key, value = attn.q_proj(x_BTW), attn.k_proj(x_BTW), attn.v_proj(x_BTW)
        else:
            joined = attn.qkv(x_BTW)
            if getattr(attn, "q_bias", None) is not None:
                joined = joined + torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
            query, key, value = joined.chunk(3, dim=-1)
        return (
            norm_heads(attn.q_norm, query, attn.num_heads),
            norm_heads(attn.k_norm, key, attn.num_heads),
            value,
        )

    def _rotate(self, x_BTW: Tensor) -> Tensor:
        if self.rope is None:
            return x_BTW
        from timm.layers import apply_rot_embed_cat  # takes seconds, and other kinds do without timm

        attn = self.layer.attn
        leading, patches = x_BTW.split(
            [attn.num_prefix_tokens, x_BTW.shape[1] - attn.num_prefix_tokens], dim=1
        )
        by_head_BHGC = patches.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
        turned_BHGC = apply_rot_embed_cat(by_head_BHGC, self.rope.get_embed(), half=attn.rotate_half)
        return torch.cat([leading, turned_BHGC.transpose(1, 2).flatten(2).type_as(x_BTW)], dim=1)


class EvaPostNormBlock(EvaBlock):
    """timm's EvaBlockPostNorm, of EVA-02's largest: the norms follow attention and feed-forward layer."""

    def branch(self, mixed_BTW: Tensor) -> Tensor:
        attn = self.layer.attn
        return self.layer.norm1(attn.proj(attn.norm(mixed_BTW)))

    def feed_forward(self, x_BTW: Tensor) -> Tensor:
        return self.layer.norm2(self.layer.mlp(x_BTW))

    def _before(self, x_BTW: Tensor) -> Tensor:
        return x_BTW


def _scaled(gamma_W: Tensor | None, x_BTW: Tensor) -> Tensor:
    return x_BTW if gamma_W is None else gamma_W * x_BTW


BLOCKS = {"EvaBlock": EvaBlock, "EvaBlockPostNorm": EvaPostNormBlock}


def eva_vit(visual: Any) -> Vit:
    """The parts of open_clip's adapter around timm's Eva.

    Raises:
        UserError: its blocks, its attention or its pool are of another form.
    """
    trunk = visual.trunk
    found = type(trunk.blocks[0]).__name__
    check_form(trunk, found if found in BLOCKS else "EvaBlock", ("token", "avg", "map"))

    def stem(images: Tensor) -> Tensor:
        return trunk.norm_pre(trunk._pos_embed(trunk.patch_embed(images))[0])

    # Eva's attention pool sees the class token too, its mean does not.
    unpooled = trunk.num_prefix_tokens if trunk.attn_pool is None else 0
    blocks: list[Block] = [BLOCKS[found](block, trunk.rope) for block in trunk.blocks]
    return timm_parts(visual, stem, blocks, TimmHead(visual, unpooled))
