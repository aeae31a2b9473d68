"""Adapters: small trained layers inside frozen transformer blocks (AIM, arXiv 2302.03024).

Shapes: W width of the transformer.
"""

import torch.nn.functional as F
from torch import Tensor, nn

BOTTLENECK = 0.25


class Adapter(nn.Module):
    """A(z) = z + W2 GELU(W1 z + b1) + b2, a bottleneck of a quarter of the width (section 3.2).

    Only W1 starts away from zero (truncated normal, deviation 0.02), so A starts as the identity and the
    network as plain CLIP. AIM has three adapters per block; FSGR has the one after the attention.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, int(BOTTLENECK * width))
        self.up = nn.Linear(self.down.out_features, width)
        nn.init.trunc_normal_(self.down.weight, std=0.02)
        for weight in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(weight)

    def forward(self, z: Tensor) -> Tensor:
        """[..., W] -> [..., W]"""
        return z + self.up(F.gelu(self.down(z)))
