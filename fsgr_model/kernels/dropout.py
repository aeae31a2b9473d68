"""Dropout whose mask costs an eighth of the random numbers.

PyTorch draws one random number an element on one CPU core, which takes almost half of a training step of a
small network. Here one 64-bit number gives eight bytes, and a byte decides on an element.
"""

from typing import Any

import torch
from torch import Tensor, nn


class FastDropout(nn.Dropout):
    """Zeroes elements with probability `p`, rounded to a multiple of 1/256, and scales the others up
    (Srivastava et al. 2014), so that the mean is kept exactly.
    """

    def __init__(self, p: float) -> None:
        super().__init__(p)
        self.dropped_bytes = round(256 * p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.dropped_bytes == 0:
            return x
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device)
        # From the lowest int64 on: without bounds, random_ leaves the sign bit alone.
        words.random_(torch.iinfo(torch.int64).min, None)
        kept = (words.view(torch.uint8)[: x.numel()] >= self.dropped_bytes).view(x.shape)
        return _Masked.apply(x, kept, 256 / (256 - self.dropped_bytes))


class _Masked(torch.autograd.Function):
    """x times the boolean mask times `scale`, and the same to the gradient.

    Made float, mask and scale go through memory once with x; booleans that PyTorch multiplies by itself take
    twice as long. What is kept for the gradient is a byte an element all the same.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return x * kept.to(x.dtype).mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return grad * kept.to(grad.dtype).mul_(ctx.scale), None, None
