"""What the pipeline asks of a vision transformer of any library: a stem, blocks, and a head.

Each kind has a file of its own: `clip_vit` (open_clip's), `timm_vit`, `eva_vit`.

Shapes: B images, T tokens = leading tokens (a class token, or none) + G patches, P prompts, W vision width,
E joint width, H heads, C channels per head.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Align = Literal["plain", "csa", "qk_kk", "value"]


class Block(nn.Module, ABC):
    """A residual block in two branches, attention and feed-forward, each with its norm and its scale."""

    num_heads: int

    @abstractmethod
    def query_key_value(self, x_BTW: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values of the tokens, heads concatenated, as the attention uses them."""

    @abstractmethod
    def prompt_key_value(self, prompt_BPW: Tensor) -> tuple[Tensor, ...]:
        """Keys and values of tokens without a place in the image."""

    @abstractmethod
    def branch(self, mixed_BTW: Tensor) -> Tensor:
        """What the attention branch adds, from the mixed values."""

    @abstractmethod
    def feed_forward(self, x_BTW: Tensor) -> Tensor:
        """What the feed-forward branch adds."""


class Head(nn.Module, ABC):
    """From the tokens after the last block to the joint space; nothing is normalised."""

    joint_width: int

    @abstractmethod
    def embed(self, x_BTW: Tensor) -> Tensor:
        """The image embedding [B, E], equal to open_clip's."""

    @abstractmethod
    def place(self, patch_BGW: Tensor) -> Tensor:
        """Each patch in the joint space by itself [B, G, E], as if `embed` pooled no other."""

    def embed_and_place(self, x_BTW: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
        """Both, of tokens whose first `prefix` are no patches."""
        return self.embed(x_BTW), self.place(x_BTW[:, prefix:])


@dataclass(frozen=True)
class Vit:
    """A vision transformer in parts; `stem` makes the tokens that enter the first block.

    `prefix` is the number of tokens before the patches.
    """

    stem: Callable[[Tensor], Tensor]
    blocks: Sequence[Block]
    head: Head
    width: int
    prefix: int
    grid_size: tuple[int, int]
    patch_size: tuple[int, int]


def run_blocks(blocks: Iterable[Block], x_BTW: Tensor, mask_TT: Tensor | None = None) -> Tensor:
    """Plain blocks, one after the other; equal to the library's own forward."""
    for block in blocks:
        x_BTW = run_block(block, x_BTW, mask_TT=mask_TT)
    return x_BTW


def run_block(
    block: Block,
    x_BTW: Tensor,
    attention: Align = "plain",
    adapter: Callable[[Tensor], Tensor] | None = None,
    *,
    mask_TT: Tensor | None = None,
) -> Tensor:
    """One residual block; only its attention branch depends on `attention`, and passes `adapter`.

    `mask_TT` is added to the logits of plain attention.
    """
    branch_BTW = block.branch(_attend(block, x_BTW, attention, mask_TT))
    return add_branches(block, x_BTW, branch_BTW, adapter)


def add_branches(
    block: Block, x_BTW: Tensor, branch_BTW: Tensor, adapter: Callable[[Tensor], Tensor] | None
) -> Tensor:
    """The block's output from its input and its attention branch."""
    x_BTW = x_BTW + (branch_BTW if adapter is None else adapter(branch_BTW))
    return x_BTW + block.feed_forward(x_BTW)


def _attend(block: Block, x_BTW: Tensor, attention: Align, mask_TT: Tensor | None) -> Tensor:
    query_BTW, key_BTW, value_BTW = block.query_key_value(x_BTW)
    if attention == "value":
        return value_BTW
    if attention == "plain":
        return mix_values(query_BTW, key_BTW, value_BTW, block.num_heads, mask=mask_TT)
    return correlative_attention(query_BTW, key_BTW, value_BTW, block.num_heads, attention=attention)


def correlative_attention(
    query_BTW: Tensor, key_BTW: Tensor, value_BTW: Tensor, heads: int, *, attention: Align
) -> Tensor:
    """(softmax(Q Aᵀ s) + softmax(K Kᵀ s)) V per head with s = 1/sqrt(C); rows of weights sum to 2.

    A is what the queries are compared with: the queries themselves (`csa`: SCLIP, arXiv 2312.01597, section
    3.2) or the keys (`qk_kk`).
    """
    asked_BTW = query_BTW if attention == "csa" else key_BTW
    return mix_values(query_BTW, asked_BTW, value_BTW, heads) + mix_values(key_BTW, key_BTW, value_BTW, heads)


def mix_values(
    query_BQW: Tensor, key_BTW: Tensor, value_BTW: Tensor, heads: int, *, mask: Tensor | None = None
) -> Tensor:
    """softmax(Q Kᵀ / sqrt(C) + mask) V, per head; the heads are concatenated: [B, Q, W]."""
    # nn.MultiheadAttention computes the same from copies of queries, keys and values.
    query, key, value = (
        x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query_BQW, key_BTW, value_BTW)
    )
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)


def joint_width_of(layers: Iterable[nn.Module], width: int) -> int:
    """Outputs of the last linear layer in `layers`; `width` where there is none."""
    found = [each for layer in layers for each in layer.modules() if isinstance(each, nn.Linear)]
    return found[-1].out_features if found else width
