"""Multi-head attention that computes keys and values separately from queries, so that they can be cached.

Shapes: N batch rows, Q queries, M keys, H heads, D d_model, C = D / H width per head.
"""

from torch import Tensor, nn

from fsgr_model.kernels.drop_ins import attention_of


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017, arXiv 1706.03762, section 3.2).

    There is no dropout on the weights, only on the outputs of sublayers (a choice: PyTorch's fused kernels
    can then run in training).
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model)

    def split_heads(self, x_NMD: Tensor) -> Tensor:
        """[N, M, D] -> [N, H, M, C]"""
        return x_NMD.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def keys_values(self, key_NMD: Tensor, value_NMD: Tensor) -> tuple[Tensor, Tensor]:
        """Project what is attended to: two tensors [N, H, M, C]."""
        return self.split_heads(self.key(key_NMD)), self.split_heads(self.value(value_NMD))

    def forward(
        self,
        query_NQD: Tensor,
        keys_NHMC: Tensor,
        values_NHMC: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Attend; `bias` broadcasts to [N, H, Q, M]: numbers are added to the scaled logits; in a boolean
        mask, True marks the keys that are visible.

        Returns:
            [N, Q, D], the output projection applied.
        """
        query_NHQC = self.split_heads(self.query(query_NQD))
        mixed_NHQC = attention_of(self)(query_NHQC, keys_NHMC, values_NHMC, attn_mask=bias)
        return self.out(mixed_NHQC.transpose(1, 2).flatten(2))


class FeedForward(nn.Sequential):
    """Two linear layers with a ReLU between (arXiv 1706.03762, section 3.3)."""

    def __init__(self, d_model: int, d_ff: int, dropout: float) -> None:
        super().__init__(nn.Linear(d_model, d_ff), nn.ReLU(), nn.Dropout(dropout), nn.Linear(d_ff, d_model))
