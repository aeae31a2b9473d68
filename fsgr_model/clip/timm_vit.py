"""timm's vision transformer: SigLIP and SigLIP 2, MobileCLIP-B, ViTamin behind its convolutions.

Shapes: as in `vit`.
"""

from typing import Any

from torch import Tensor, nn

from fsgr_model.clip.vit import Block, Head, Vit, joint_width_of
from fsgr_model.runtime.errors import UserError


class TimmBlock(Block):
    """timm's Block, whose feed-forward layer may be of any form."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads = layer.attn.num_heads

    def query_key_value(self, x_BTW: Tensor) -> tuple[Tensor, ...]:
        attn = self.layer.attn
        query, key, value = attn.qkv(self.layer.norm1(x_BTW)).chunk(3, dim=-1)
        return (
            norm_heads(attn.q_norm, query, attn.num_heads),
            norm_heads(attn.k_norm, key, attn.num_heads),
            value,
        )

    def prompt_key_value(self, prompt_BPW: Tensor) -> tuple[Tensor, ...]:
        return self.query_key_value(prompt_BPW)[1:]

    def branch(self, mixed_BTW: Tensor) -> Tensor:
        attn = self.layer.attn
        return self.layer.ls1(attn.proj(attn.norm(mixed_BTW)))

    def feed_forward(self, x_BTW: Tensor) -> Tensor:
        return self.layer.ls2(self.layer.mlp(self.layer.norm2(x_BTW)))


def norm_heads(norm: nn.Module, x_BTW: Tensor, heads: int) -> Tensor:
    """Each head's channels normalised by themselves."""
    return x_BTW if isinstance(norm, nn.Identity) else norm(x_BTW.unflatten(-1, (heads, -1))).flatten(-2)


class TimmHead(Head):
    """Norm, pool, norm, classifier of timm, and the projection that open_clip puts behind it.

    The pool is the class token, the mean of the patches, or attention of one learned query (SigLIP's MAP
    head, arXiv 2106.04560, section 3.4). A patch alone takes the pool's value path, a choice of ours that
    follows MaskCLIP's for the pool of a ResNet (arXiv 2112.01071).
    """

    def __init__(self, visual: Any, unpooled: int) -> None:
        """`unpooled`: how many leading tokens the pool does not see."""
        super().__init__()
        trunk = visual.trunk
        self.unpooled = unpooled
        self.pool_type: str = trunk.global_pool
        self.attn_pool = trunk.attn_pool
        self.norm, self.fc_norm = trunk.norm, trunk.fc_norm
        self.projection = nn.Sequential(trunk.head, visual.head)
        self.joint_width = joint_width_of([trunk.head, visual.head], trunk.embed_dim)

    def embed(self, x_BTW: Tensor) -> Tensor:
        return self.projection(self.fc_norm(self._pool(self.norm(x_BTW))))

    def place(self, patch_BGW: Tensor) -> Tensor:
        patch_BGW = self.norm(patch_BGW)
        if self.attn_pool is not None:
            patch_BGW = pool_alone(self.attn_pool, patch_BGW)
        return self.projection(self.fc_norm(patch_BGW))

    def _pool(self, x_BTW: Tensor) -> Tensor:
        if self.attn_pool is not None:
            return self.attn_pool(x_BTW[:, self.unpooled :])
        return x_BTW[:, 0] if self.pool_type == "token" else x_BTW[:, self.unpooled :].mean(dim=1)


def pool_alone(pool: Any, patch_BGW: Tensor) -> Tensor:
    """timm's AttentionPoolLatent of every patch as if it were the only one: its value path."""
    mixed_BGW = pool.proj(pool.kv(patch_BGW).chunk(2, dim=-1)[1])
    return mixed_BGW if pool.mlp is None else mixed_BGW + pool.mlp(pool.norm(mixed_BGW))


def timm_vit(visual: Any) -> Vit:
    """The parts of open_clip's adapter around timm's VisionTransformer.

    Raises:
        UserError: its blocks, its attention or its pool are of another form.
    """
    trunk = visual.trunk
    check_form(trunk, "Block", ("token", "avg", "map"))

    def stem(images: Tensor) -> Tensor:
        return trunk.norm_pre(trunk.patch_drop(trunk._pos_embed(trunk.patch_embed(images))))

    unpooled = 0 if trunk.pool_include_prefix else trunk.num_prefix_tokens
    return timm_parts(visual, stem, [TimmBlock(block) for block in trunk.blocks], TimmHead(visual, unpooled))


def check_form(trunk: Any, block: str, pools: tuple[str, ...]) -> None:
    """Refuse blocks that are not named `block`, a gate in their attention, and other pools."""
    found = type(trunk.blocks[0]).__name__
    if found != block:
        raise UserError(f"clip.model has {found} blocks in a {type(trunk).__name__}; only {block} can be cut")
    attn = trunk.blocks[0].attn
    if attn.gate is not None or getattr(attn, "num_kv_groups", 1) > 1:
        raise UserError(
            f"clip.model has {type(attn).__name__} with gates or shared keys, which cannot be cut"
        )
    if trunk.global_pool not in pools:
        raise UserError(f"clip.model pools by {trunk.global_pool!r}; only {', '.join(pools)} can be cut")


def timm_parts(visual: Any, stem: Any, blocks: list[Block], head: Head) -> Vit:
    """With the sizes that timm names; the grid follows from the size of the pictures."""
    trunk = visual.trunk
    reduction = trunk.feature_info[0]["reduction"]
    patch_size = (reduction, reduction) if isinstance(reduction, int) else tuple(reduction)
    rows, columns = (side // patch for side, patch in zip(visual.image_size, patch_size, strict=True))
    return Vit(
        stem=stem,
        blocks=blocks,
        head=head,
        width=trunk.embed_dim,
        prefix=trunk.num_prefix_tokens,
        grid_size=(rows, columns),
        patch_size=patch_size,
    )
