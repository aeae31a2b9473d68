"""open_clip's own vision transformer, with a class token, an average or CoCa's attention pool at its end.

Shapes: as in `vit`.
"""

from typing import Any

from torch import Tensor

from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.vit import Block, Head, Vit
from fsgr_model.kernels.drop_ins import product_of
from fsgr_model.runtime.errors import UserError


class ClipBlock(Block):
    """open_clip's ResidualAttentionBlock; texts have the same one."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads = layer.attn.num_heads

    def query_key_value(self, x_BTW: Tensor) -> tuple[Tensor, ...]:
        attn = self.layer.attn
        product = product_of(attn)(self.layer.ln_1(x_BTW), attn.in_proj_weight, attn.in_proj_bias)
        return product.chunk(3, dim=-1)

    def prompt_key_value(self, prompt_BPW: Tensor) -> tuple[Tensor, ...]:
        attn, W = self.layer.attn, prompt_BPW.shape[-1]
        weight, bias = attn.in_proj_weight[W:], attn.in_proj_bias[W:]
        return product_of(attn)(self.layer.ln_1(prompt_BPW), weight, bias).chunk(2, dim=-1)

    def branch(self, mixed_BTW: Tensor) -> Tensor:
        attn = self.layer.attn
        return self.layer.ls_1(product_of(attn)(mixed_BTW, attn.out_proj.weight, attn.out_proj.bias))

    def feed_forward(self, x_BTW: Tensor) -> Tensor:
        return self.layer.ls_2(self.layer.mlp(self.layer.ln_2(x_BTW)))


class ClipHead(Head):
    """The final norm and a projection, of the class token or of the mean of the patches."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.ln_post = visual.ln_post
        self.proj = visual.proj
        self.joint_width = visual.proj.shape[1]
        self.pool_type: str = visual.pool_type
        self.norm_after_pool: bool = visual.final_ln_after_pool

    def embed(self, x_BTW: Tensor) -> Tensor:
        if self.pool_type == "tok":
            return self.place(x_BTW[:, 0])
        if self.norm_after_pool:
            return self.place(x_BTW[:, 1:].mean(dim=1))
        return self.place(x_BTW[:, 1:]).mean(dim=1)

    def place(self, patch_BGW: Tensor) -> Tensor:
        return self.ln_post(patch_BGW) @ self.proj

    def embed_and_place(self, x_BTW: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
        if self.pool_type == "avg" and self.norm_after_pool:
            return super().embed_and_place(x_BTW, prefix)
        # One norm serves both.
        x_BTW = self.ln_post(x_BTW)
        patch_BGW = x_BTW[:, prefix:]
        pooled_BW = x_BTW[:, 0] if self.pool_type == "tok" else patch_BGW.mean(dim=1)
        return pooled_BW @ self.proj, patch_BGW @ self.proj


class CocaHead(Head):
    """CoCa's attention pool (arXiv 2205.01917, section 3.2), the final norm and a projection.

    A patch alone takes the pool's value path, as MaskCLIP has it for the pool of a ResNet (arXiv 2112.01071).
    """

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.attn_pool = visual.attn_pool
        self.ln_post = visual.ln_post
        self.proj = visual.proj
        self.joint_width = visual.proj.shape[1]
        self.pool_type: str = visual.pool_type

    def embed(self, x_BTW: Tensor) -> Tensor:
        pooled_BQE = self.ln_post(self.attn_pool(x_BTW))
        first = self.pool_type == "tok"
        return (pooled_BQE[:, 0] if first else pooled_BQE[:, 1:].mean(dim=1)) @ self.proj

    def place(self, patch_BGW: Tensor) -> Tensor:
        attn = self.attn_pool.attn
        E = attn.embed_dim
        joined = attn.in_proj_weight
        weight = attn.v_proj_weight if joined is None else joined[2 * E :]
        value_BGE = product_of(attn)(self.attn_pool.ln_k(patch_BGW), weight, attn.in_proj_bias[2 * E :])
        mixed_BGE = product_of(attn)(value_BGE, attn.out_proj.weight, attn.out_proj.bias)
        return self.ln_post(mixed_BGE) @ self.proj


def clip_vit(visual: Any) -> Vit:
    """The parts of open_clip's VisionTransformer.

    Raises:
        UserError: its pool or its blocks are of a kind that no architecture of open_clip has.
    """
    blocks = visual.transformer.resblocks
    if not isinstance(blocks[0], open_clip.transformer.ResidualAttentionBlock):
        raise UserError(
            f"clip.model has {type(blocks[0]).__name__} blocks; use an architecture with plain ones"
        )
    if visual.pool_type not in ("tok", "avg"):
        raise UserError(f"clip.model has pool_type {visual.pool_type}; use pool_type tok or avg")
    return Vit(
        stem=visual._embeds,
        blocks=[ClipBlock(block) for block in blocks],
        head=ClipHead(visual) if visual.attn_pool is None else CocaHead(visual),
        width=visual.conv1.out_channels,
        prefix=1,
        grid_size=visual.grid_size,
        patch_size=visual.patch_size,
    )
