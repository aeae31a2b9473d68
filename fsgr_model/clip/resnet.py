"""CLIP's ResNets: everything but the attention pool is the trunk, the attention pool is the tail.

The cache holds the map of the last layer as tokens, preceded by their mean, which takes the place of a vision
transformer's CLS token (arXiv 2103.00020, section 2.4).

Shapes: B images, T tokens = 1 mean + G positions of the map, W width of the map, E joint width.
"""

from typing import Any

import torch
from torch import nn

from fsgr_model.clip.logit_scale import logit_scale_of
from fsgr_model.clip.split import FrozenTail, TailOutput
from fsgr_model.clip.vit import Align, correlative_attention, mix_values
from fsgr_model.runtime.errors import UserError


class ResNetTrunk(nn.Module):
    """All layers: float32 images [B, 3, height, width] -> tokens_BTW, the map and its mean before it."""

    def __init__(self, clip_model: nn.Module, cut: int) -> None:
        super().__init__()
        self.visual = resnet_tower(clip_model, cut)
        self.cut = cut

    @property
    def token_shape(self) -> tuple[int, int]:
        """(T, W) of one image's tokens."""
        return tuple(self.visual.attnpool.positional_embedding.shape)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.visual.stem(images)
        for layer in (self.visual.layer1, self.visual.layer2, self.visual.layer3, self.visual.layer4):
            x = layer(x)
        map_BGW = x.flatten(2).transpose(1, 2)
        return torch.cat([map_BGW.mean(dim=1, keepdim=True), map_BGW], dim=1)


class ResNetTail(FrozenTail):
    """The attention pool, with the outputs of `Tail`.

    `align`: with `plain`, every position of the map is a query as the mean is; `csa` is correlative attention
    in the same layer (SCLIP, arXiv 2312.01597), `qk_kk` half of it; `value` is MaskCLIP's form for ResNets
    (arXiv 2112.01071): each position's own value and the projection, without position embeddings.
    """

    # A kernel that replaces linear layers must skip this one, because open_clip reads its weights directly.
    READS_WEIGHTS_OF = ("pool",)

    def __init__(self, clip_model: nn.Module, cut: int, align: Align) -> None:
        super().__init__()
        self.pool = resnet_tower(clip_model, cut).attnpool
        self.logit_scale = logit_scale_of(clip_model)
        side = round((self.pool.positional_embedding.shape[0] - 1) ** 0.5)
        self.grid_size = (side, side)
        self.joint_width, self.width = self.pool.c_proj.weight.shape
        self.align = align
        self.requires_grad_(False).eval()

    def forward(self, tokens_BTW: torch.Tensor) -> TailOutput:
        """From the cache (float16 or float32) to the three outputs, in the precision of the weights."""
        tokens_BTW = tokens_BTW.to(self.dtype)
        global_BE = pooled(self.pool, tokens_BTW, asking=slice(0, 1))[:, 0]
        return TailOutput(tokens_BTW[:, 1:], global_BE, self.aligned(tokens_BTW))

    def aligned(self, tokens_BTW: torch.Tensor) -> torch.Tensor:
        """Only `align_BGE`."""
        tokens_BTW = tokens_BTW.to(self.dtype)
        if self.align == "value":
            return values(self.pool, tokens_BTW[:, 1:])
        if self.align == "plain":
            return pooled(self.pool, tokens_BTW, asking=slice(1, None))
        query, key, value = query_key_value(self.pool, tokens_BTW)
        mixed_BTW = correlative_attention(query, key, value, self.pool.num_heads, attention=self.align)
        return self.pool.c_proj(mixed_BTW)[:, 1:]

    def last_keys(self, tokens_BTW: torch.Tensor) -> torch.Tensor:
        """Keys of the positions of the map, heads concatenated: [B, G, W]."""
        return query_key_value(self.pool, tokens_BTW.to(self.dtype))[1][:, 1:]


def see_by_resnet(clip_model: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The embedding of each image and its positions by the pool's value path, with gradients."""
    tokens_BTW = ResNetTrunk(clip_model, cut=0)(images)
    pool = clip_model.visual.attnpool
    return pooled(pool, tokens_BTW, asking=slice(0, 1))[:, 0], values(pool, tokens_BTW[:, 1:])


def pooled(pool: Any, tokens_BTW: torch.Tensor, asking: slice) -> torch.Tensor:
    """The attention output of the query tokens `asking` over all tokens: [B, number of queries, E]."""
    query, key, value = query_key_value(pool, tokens_BTW)
    return pool.c_proj(mix_values(query[:, asking], key, value, pool.num_heads))


def values(pool: Any, map_BGW: torch.Tensor) -> torch.Tensor:
    """Each position's own value, projected: [B, G, E]."""
    return pool.c_proj(pool.v_proj(map_BGW))


def query_key_value(pool: Any, tokens_BTW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of the tokens at their places."""
    placed_BTW = tokens_BTW + pool.positional_embedding
    return pool.q_proj(placed_BTW), pool.k_proj(placed_BTW), pool.v_proj(placed_BTW)


def resnet_tower(clip_model: nn.Module, cut: int) -> Any:
    """The model's ResNet, which can only be cut before its attention pool.

    Raises:
        UserError: `cut` is not 0.
    """
    if cut:
        raise UserError(
            f"clip.cut {cut}: a ResNet of CLIP is cut before its attention pool only; set clip.cut: 0"
        )
    return clip_model.visual
