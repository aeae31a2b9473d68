"""A batch in pieces, one after the other, where it does not fit in memory as a whole: gradient accumulation.

The gradient is that of the whole batch, also where pieces have unequal numbers of words: each piece adds the
sum over its words, and the sums are divided by the number of all words at the end. A loss that compares the
images of a batch with each other cannot be cut so.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fsgr_model.runtime.world import World

Report = dict[str, float]


class Pieces(World):
    """Stands for the world in a task's loss: parts of means are sums, until all counts are known.

    The sums are divided by the images of the batch meanwhile, so that they do not grow beyond fp16.
    """

    def __init__(self, images: int, *, of: int) -> None:
        """So many images are a piece, `of` a whole batch of all processes."""
        self.piece, self.unit = images, of
        self.counts: Counter[str] = Counter()

    def part(self, mean: Tensor, count: Tensor | int, of: str = "loss") -> Tensor:
        """As `World`, but the sum over what counts, in units of an image."""
        self.counts[of] += int(count)
        return mean * (int(count) / self.unit) if int(count) else mean.new_zeros(())

    def factors(self, world: World) -> Report:
        """By what each sum over the pieces of all processes has to be multiplied to be the mean."""
        names = sorted(self.counts)
        totals = world.sum(torch.tensor([self.counts[name] for name in names]))
        return {name: self.unit / max(int(total), 1) for name, total in zip(names, totals, strict=True)}

    def accumulate(
        self, images: int, gradient: Callable[[int, int], tuple[Tensor, Report]]
    ) -> tuple[Tensor, Report]:
        """Call `gradient` for the first and last + 1 image of each piece; the sums of losses and reports."""
        self.counts.clear()
        starts = range(0, max(images, 1), self.piece)
        found = [gradient(start, min(start + self.piece, images)) for start in starts]
        loss = torch.stack([loss for loss, _ in found]).sum()
        return loss, {key: sum(report[key] for _, report in found) for key in found[0][1]}


@torch.no_grad()
def scale_gradients(weights: Sequence[nn.Parameter], factor: float) -> None:
    """Multiply all gradients that there are."""
    torch._foreach_mul_([weight.grad for weight in weights if weight.grad is not None], factor)
