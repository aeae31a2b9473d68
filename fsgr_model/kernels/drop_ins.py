"""Where a layer calls a function of PyTorch, a kernel may replace it by a faster one of the same signature.

A layer asks for it with `product_of(self)` or `attention_of(self)`, and gets PyTorch's own where nothing was
installed.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

PRODUCT, ATTENTION = "fast_product", "fast_attention"


def product_of(layer: nn.Module) -> Callable[..., Tensor]:
    """`F.linear`, or what computes the same for this layer."""
    return getattr(layer, PRODUCT, F.linear)


def attention_of(layer: nn.Module) -> Callable[..., Tensor]:
    """`F.scaled_dot_product_attention`, or what computes the same for this layer."""
    return getattr(layer, ATTENTION, F.scaled_dot_product_attention)
