"""Dropout whose mask costs an eighth of the random numbers.

PyTorch draws one random number an element on one CPU core, which takes almost half of a training step of a
small network. Here one 64-bit number gives eight bytes, and a byte decides on an element.
"""

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zeroes elements with probability `p`, rounded to a multiple of 1/256, and scales the others up
    (Srivastava et al. 2014), so that the mean is kept exactly.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropped_bytes = round(256 * p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.dropped_bytes == 0:
            return x
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device)
        # From the lowest int64 on: without bounds, random_ leaves the sign bit alone.
        words.random_(torch.iinfo(torch.int64).min, None)
        kept = (words.view(torch.uint8)[: x.numel()] >= self.dropped_bytes).view(x.shape)
        return x * kept * (256 / (256 - self.dropped_bytes))
