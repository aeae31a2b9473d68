"""Self-attention that also reads a memory: keys and values that do not come from the caption's words.

PMA-Net (Barraco et al., ICCV 2023, arXiv 2308.12383) gives every self-attention of the decoder prototypes of
the keys and values of other captions, over the last training steps. This module reads them;
training/prototypes.py finds them.

The memory is the same for every caption, so it is kept once, outside of the growing cache of words, and is
never copied or reordered with it.

Shapes: N captions, L words read now, P words so far, M slots of the memory, D d_model, H heads,
C = D / H width per head.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fsgr_model.config.model_params import MemoryKind
from fsgr_model.network.attention import MultiHeadAttention


class Remembered(NamedTuple):
    """The keys of the words in the form used beside a memory [N, H, P, C], and that memory [H, M, C]."""

    word_key_NHPC: Tensor
    key_HMC: Tensor
    value_HMC: Tensor


class Prototypes(nn.Module):
    """Keys and values in buffers, found by clustering, and a trained vector for either kind of key.

    The segment vectors tell keys of words from keys of prototypes; they start at zero (a choice), and values
    have none. Until `replace` is called for the first time there are no prototypes: the buffers have no
    rows. They are part of a checkpoint, and are loaded with the number of rows that it has.
    """

    key_MD: Tensor
    value_MD: Tensor

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.register_buffer("key_MD", torch.empty(0, d_model))
        self.register_buffer("value_MD", torch.empty(0, d_model))
        self.word_segment_D = nn.Parameter(torch.zeros(d_model))
        self.prototype_segment_D = nn.Parameter(torch.zeros(d_model))

    def replace(self, key_MD: Tensor, value_MD: Tensor) -> None:
        """Set other prototypes, as new tensors, because a pending backward pass still needs the old ones."""
        self.key_MD, self.value_MD = (x.detach().to(self.key_MD) for x in (key_MD, value_MD))

    def forward(self, word_key_NHPC: Tensor) -> Remembered | None:
        if not len(self.key_MD):
            return None
        return Remembered(
            word_key_NHPC + self._split_heads(self.word_segment_D[None]),
            self._split_heads(self.key_MD + self.prototype_segment_D),
            self._split_heads(self.value_MD),
        )

    def _split_heads(self, x_MD: Tensor) -> Tensor:
        """[M, D] -> [H, M, C]"""
        return x_MD.unflatten(-1, (self.num_heads, -1)).transpose(0, 1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("key_MD", "value_MD"):
            if prefix + name in state_dict:
                setattr(self, name, getattr(self, name).new_empty(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class LearnedSlots(nn.Module):
    """Keys and values that are trained as weights (M2, Cornia et al., CVPR 2020, arXiv 1912.08226, eq. 1).

    The control for the prototypes: as many slots, without content from other captions. They are drawn and
    scaled as in the published code of M2, which has them in its encoder; here they replace the prototypes.
    """

    def __init__(self, d_model: int, *, num_heads: int, num_slots: int) -> None:
        super().__init__()
        width = d_model // num_heads
        self.key_HMC = nn.Parameter(torch.randn(num_heads, num_slots, width) / width)
        self.value_HMC = nn.Parameter(torch.randn(num_heads, num_slots, width) / num_slots)

    def forward(self, word_key_NHPC: Tensor) -> Remembered:
        _, M, C = self.key_HMC.shape
        return Remembered(word_key_NHPC, C**0.5 * self.key_HMC, M**0.5 * self.value_HMC)


class MemoryAttention(MultiHeadAttention):
    """Attention over [memory; words] (arXiv 2308.12383, section 3): one softmax over both.

    The mask applies to the words; the memory is always visible. While the memory is empty, this is the plain
    attention that it extends.
    """

    def __init__(self, d_model: int, num_heads: int, memory: Prototypes | LearnedSlots) -> None:
        super().__init__(d_model, num_heads)
        self.memory = memory

    def forward(
        self,
        query_NQD: Tensor,
        keys_NHMC: Tensor,
        values_NHMC: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Attend as `MultiHeadAttention.forward` does; keys and values are those of the words, and `bias` is
        boolean.
        """
        remembered = self.memory(keys_NHMC)
        if remembered is None:
            return super().forward(query_NQD, keys_NHMC, values_NHMC, bias)
        word_key_NHPC, key_HMC, value_HMC = remembered
        query_NHLC = self.split_heads(self.query(query_NQD)) / key_HMC.shape[-1] ** 0.5
        to_words_NHLP = query_NHLC @ word_key_NHPC.transpose(-1, -2)
        if bias is not None:
            to_words_NHLP = to_words_NHLP.masked_fill(~bias, -torch.inf)
        to_memory_NHLM = torch.einsum("nhlc,hmc->nhlm", query_NHLC, key_HMC)
        weights = torch.cat([to_memory_NHLM, to_words_NHLP], dim=-1).softmax(dim=-1)
        memory_weights, word_weights = weights.tensor_split([key_HMC.shape[1]], dim=-1)
        mixed_NHLC = torch.einsum("nhlm,hmc->nhlc", memory_weights, value_HMC) + word_weights @ values_NHMC
        return self.out(mixed_NHLC.transpose(1, 2).flatten(2))


def self_attention(d_model: int, num_heads: int, memory: MemoryKind, memory_size: int) -> MultiHeadAttention:
    """The decoder's self-attention with the memory that the parameters name, or with none."""
    if memory == "none":
        return MultiHeadAttention(d_model, num_heads)
    if memory == "learned":
        return MemoryAttention(
            d_model, num_heads, LearnedSlots(d_model, num_heads=num_heads, num_slots=memory_size)
        )
    return MemoryAttention(d_model, num_heads, Prototypes(d_model, num_heads))
