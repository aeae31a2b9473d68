"""Random numbers that belong to an image: however a batch is dealt out to processes, it draws the same ones.

PyTorch's generators give the next number to whoever asks next, so what an image gets depends on the images
before it. Here a number is a function of a key of the image and of a counter (Salmon et al., SC 2011, on
counter-based generators); the function is the finaliser of SplitMix64 (Steele et al., OOPSLA 2014,
figure 16). Integers wrap alike on a CPU and on a GPU, so both draw the same numbers, also in a CUDA graph.

Shapes: B images, N numbers per image.
"""

import torch
from torch import Tensor, nn

from fsgr_model.network.quantiser import SemanticQuantiser

# Odd numbers that spread counters over all 64 bits, as signed integers; the first is 2^64 / golden ratio.
BY_IMAGE, BY_CALL, BY_PLACE = -7046029254386353131, -4417276706812531889, -2643881736870682267
FIRST_FACTOR, SECOND_FACTOR = -4658895280553007687, -7723592293110705685
BITS_OF_CHANCE = 40
NUMBERS, A_WORD = 2**16, 4


class ImageDraws:
    """The numbers of a step. The n-th call of a step draws numbers of its own, independent of all others."""

    def __init__(self) -> None:
        self.key_B = torch.zeros(0, dtype=torch.int64)
        self.calls = 0

    def begin(self, key_B: Tensor) -> None:
        """Start a step of the images with these keys, on the device that will ask."""
        self.key_B, self.calls = key_B, 0

    def words(self, count: int) -> Tensor:
        """int64 [B, count], all bits random; the first numbers of an image do not depend on `count`."""
        self.calls += 1
        place_N = torch.arange(count, device=self.key_B.device)
        call = torch.tensor(self.calls, device=self.key_B.device) * BY_CALL
        return mixed(mixed(self.key_B + call)[:, None] + place_N * BY_PLACE)

    def uniform(self, count: int) -> Tensor:
        """Numbers between 0 and 1, neither of them included, float32 [B, count], from 40 bits each."""
        chance = ((self.words(count) >> (63 - BITS_OF_CHANCE)) & (2**BITS_OF_CHANCE - 1)).float() + 0.5
        return (chance * 2.0**-BITS_OF_CHANCE).clamp_(max=1 - 2.0**-24)

    def exponential(self, count: int) -> Tensor:
        """Exponential numbers of mean 1, float32 [B, count]; above 0."""
        return -torch.log1p(-self.uniform(count))


def mixed(x: Tensor) -> Tensor:
    """Each integer as another one, one to one, in which every bit depends on all."""
    x = (x ^ _shifted(x, 30)) * FIRST_FACTOR
    x = (x ^ _shifted(x, 27)) * SECOND_FACTOR
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """A shift to the right that moves zeros in, though the integers have a sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


class ImageDropout(nn.Dropout):
    """Dropout whose mask belongs to the image; the first dimension goes image by image.

    The probability is rounded to a multiple of 1/65,536, and the scale is that of the rounded one.
    """

    def __init__(self, p: float, draws: ImageDraws) -> None:
        super().__init__(p)
        self.draws = draws

    def forward(self, x: Tensor) -> Tensor:
        """The shape of x."""
        if not self.training or self.p == 0:
            return x
        images, dropped = len(self.draws.key_B), round(NUMBERS * self.p)
        of_image = x.numel() // max(images, 1)
        words = self.draws.words(-(-of_image // A_WORD))
        lowest = torch.iinfo(torch.int16).min
        kept = words.view(torch.int16)[:, :of_image] >= lowest + dropped
        return x * kept.view(x.shape).to(x.dtype).mul_(NUMBERS / (NUMBERS - dropped))


def draw_by_image(network: nn.Module) -> ImageDraws:
    """Make every random layer of a captioner draw by image; the caller begins each step of the result."""
    draws = ImageDraws()
    for module in list(network.modules()):
        if isinstance(module, SemanticQuantiser):
            module.assignment_noise = draws.exponential
        for name, layer in module.named_children():
            if isinstance(layer, nn.Dropout):
                setattr(module, name, ImageDropout(layer.p, draws).train(layer.training))
    return draws
