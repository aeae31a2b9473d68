"""The interface of a training task: XE, SCST and CLIP as the training loop sees them.

Randomness is a function of (seed, epoch, step), so a resumed run draws the same numbers as one that was never
stopped, and no generator state has to be saved.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from fsgr_model.runtime.world import ALONE, World
from fsgr_model.training.image_draws import BY_IMAGE, ImageDraws, mixed
from fsgr_model.training.variety import Variety


@dataclass(frozen=True)
class Step:
    """A step of a run: `epoch` counts from 1, `index` counts the finished steps of that epoch."""

    seed: int
    epoch: int
    index: int

    def torch_seed(self) -> int:
        """The seed of PyTorch's generators for this step."""
        sequence = np.random.SeedSequence([self.seed, self.epoch, self.index])
        return int(sequence.generate_state(1, np.uint64)[0])

    def image_keys(self, image_ids: Sequence[int]) -> Tensor:
        """A key for each image of this step, int64 [B], by which its random numbers are drawn."""
        sequence = np.random.SeedSequence([self.seed, self.epoch, self.index])
        base = torch.from_numpy(sequence.generate_state(1, np.uint64).view(np.int64))
        return mixed(base + torch.tensor(image_ids, dtype=torch.int64) * BY_IMAGE)

    def generator(self, purpose: str) -> np.random.Generator:
        """A separate generator for `purpose`, so that drawing for one purpose changes no other draw."""
        return np.random.default_rng([self.seed, self.epoch, self.index, *purpose.encode()])


@dataclass
class Progress:
    """The progress of a run; it is saved in every resume point.

    `epoch` counts from 1 and `step` counts the finished steps of that epoch; `sums` are over those steps.
    `norm_sum` is over the norms of their gradients that were finite, `norm_steps` of them; `gradients` has a
    row per finished epoch of training; `warnings` are what has been said so far.
    """

    epoch: int = 1
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = -math.inf
    epochs_since_best: int = 0
    norm_sum: float = 0.0
    norm_steps: int = 0
    gradients: list[dict[str, float]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def close_epoch(self, epoch: int) -> None:
        """Begin the epoch after this one; where it was of training, it adds its row to `gradients`."""
        if self.step:
            norm = self.norm_sum / max(self.norm_steps, 1)
            self.gradients.append({"norm": norm, "skipped": 1 - self.norm_steps / self.step})
        self.epoch, self.step, self.sums = epoch + 1, 0, {}
        self.norm_sum, self.norm_steps = 0.0, 0


class AnyBatch(Protocol):
    """The data of a step."""

    @property
    def image_ids(self) -> list[int]: ...

    def to(self, device: torch.device) -> Any:
        """The same batch on a device."""

    def piece(self, start: int, *, end: int) -> Any:
        """The batch of these images."""


BatchT = TypeVar("BatchT", bound=AnyBatch)
Taken = TypeVar("Taken", bound=AnyBatch, covariant=True)


class Source(Protocol[Taken]):
    """Where the batches of an epoch come from."""

    @property
    def waited(self) -> float | None:
        """Seconds that the consumer of the last `batches` waited for features; None if they need none."""

    def epoch_groups(self, batch_size: int, *, seed: int, epoch: int) -> Sequence[Any]:
        """The content of each step of an epoch: a function of only seed and epoch."""

    def batches(self, groups: Sequence[Any]) -> Iterator[Taken]:
        """The batches of these steps, in order."""


class Task(Generic[BatchT]):
    """The parts that differ between tasks; optional methods do nothing by default.

    `name` is shown; `section` is that of params.yaml. `heads`: what is trained with the network and dropped
    at the end. `replays`: on a GPU, the loss is computed by CUDA graphs where the task can do so.
    """

    replays = True
    # Whether the loss is a sum over images, so that pieces of a batch have parts of it; and what its reports
    # are means over, where that is not what the loss counts. The world's `part` is told the same.
    can_be_cut = False
    counted: Mapping[str, str] = MappingProxyType({})
    world: World = ALONE
    # How random numbers are drawn by image, where processes share batches; None: from PyTorch's generator.
    draws: ImageDraws | None = None
    # Whether it goes on with a trained network, so that its first epoch can be judged already.
    begins_trained = False
    name: str
    section: str
    uses_dropout: bool
    heads: nn.Module

    def loss(self, model: Any, batch: BatchT, step: Step) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch (scalar, float32), and further numbers to report.

        Of several processes, each has a share of the batch, and returns its part of the loss and numbers:
        their sums are those of the batch.
        """
        raise NotImplementedError

    def weights(self, model: Any) -> dict[str, Tensor]:
        """The weights of the network that are saved, by name."""
        return model.state_dict()

    def after_step(self, model: Any) -> None:
        """Called after each update of the weights."""

    def warning(self, model: Any, means: dict[str, float]) -> str | None:
        """A warning if the means of an epoch after the warm-up suggest that nothing is learned."""
        return None

    def validation_warnings(
        self, means: dict[str, float], variety: Variety, before: dict[str, float]
    ) -> list[str]:
        """Warnings if validation captions hardly differ after an epoch with these means.

        `before`: the row of the history of the network before training, with `val_CIDEr` and `val_distinct`.
        """
        return [warning] if (warning := variety.one_for_many()) else []

    def signs(
        self, model: Any, means: dict[str, float], variety: Variety | None, history: list[dict[str, float]]
    ) -> list[str]:
        """All warnings after an epoch; `history` begins with the network before training."""
        found = [sign] if (sign := self.warning(model, means)) else []
        return found + (self.validation_warnings(means, variety, history[0]) if variety else [])

    def nothing_gained(self, history: list[dict[str, float]]) -> str | None:
        """A warning if no epoch scored above the network before training, whose weights are then kept."""
        first, *scores = (row["val_CIDEr"] for row in history)
        if max(scores, default=first) > first:
            return None
        return (
            f"no epoch scored above the network before it (validation CIDEr {first:.4g}), so the weights "
            f"that it began with are kept; change {self.section}.epochs or its learning rate"
        )

    def tensors(self) -> dict[str, Tensor]:
        """The state of the task itself for a resume point, by name."""
        return {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Load what `tensors` returned; other names are ignored."""
