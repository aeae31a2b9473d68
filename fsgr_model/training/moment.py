"""When something random happens in a run: all that is drawn is a function of seed, epoch and step."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moment:
    """A step of a run: `epoch` counts from 1, `step` counts the finished steps of that epoch."""

    seed: int
    epoch: int
    step: int

    def torch_seed(self) -> int:
        """The seed of PyTorch's generators for this step."""
        sequence = np.random.SeedSequence([self.seed, self.epoch, self.step])
        return int(sequence.generate_state(1, np.uint64)[0])

    def draw(self, purpose: str) -> np.random.Generator:
        """A generator of its own for `purpose`, so that drawing for one thing moves no other draw."""
        return np.random.default_rng([self.seed, self.epoch, self.step, *purpose.encode()])
