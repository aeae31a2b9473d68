"""The gradient of a step: of a whole batch, whether one process computes it, several do, or one in pieces."""

import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, Literal

import torch
from torch import Tensor, nn

from fsgr_model.runtime.device import Precision, autocast
from fsgr_model.runtime.gpu_memory import (
    largest_fitting,
    may_run_out,
    refuse_batch_size,
    suggest_batch_size,
)
from fsgr_model.runtime.world import World
from fsgr_model.training.image_draws import draw_by_image
from fsgr_model.training.micro_batches import Pieces, Report, scale_gradients
from fsgr_model.training.optimiser import Optimiser
from fsgr_model.training.task import BatchT, Step, Task
from fsgr_model.training.together import sum_gradients, sum_numbers


class Gradient(Generic[BatchT]):
    """Computes the gradients of a task's loss, scaled by `scaler`, into the weights of the optimiser.

    Args:
        batch_size: images of a whole batch.
        micro_batch: images that a process works on at once; auto: its whole share, or what fits of it.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task[BatchT],
        optimiser: Optimiser,
        scaler: torch.amp.GradScaler,
        *,
        precision: Precision,
        world: World,
        batch_size: int,
        micro_batch: int | Literal["auto"],
    ) -> None:
        self.model, self.task, self.optimiser, self.scaler = model, task, optimiser, scaler
        self.device = next(model.parameters()).device
        self.precision: Precision = precision
        self.world, self.batch_size, self.micro_batch = world, batch_size, micro_batch
        self.pieces: Pieces | None = None
        self.tried = not (world.together and micro_batch == "auto" and may_run_out(self.device))
        self.step = Step(0, 1, 0)
        if micro_batch != "auto" and micro_batch < batch_size:
            self._cut(micro_batch)

    def compute(self, batch: BatchT, step: Step) -> tuple[Tensor, Report]:
        """Leave the gradient of the whole batch in the weights, given this process's share of it.

        Returns:
            this process's parts of the loss, detached, and of the report; `means` makes means of them.
        """
        self.step, found = step, None
        if not self.tried:
            self._try_together(batch)
        if self.pieces is None:
            try:
                found = self._loss(batch)
                self.scaler.scale(found[0]).backward()
            except torch.OutOfMemoryError as error:
                found = None  # it keeps the tensors of the failed step alive
                self._cut_to_what_fits(batch, error)
        loss, report = found or self._in_pieces(batch)
        sum_gradients(self.optimiser.weights(), self.world)
        if self.pieces is not None:
            self.factors = self.pieces.factors(self.world)
            scale_gradients(self.optimiser.weights(), self.factors["loss"])
        return loss.detach(), report

    def means(self, parts: Report) -> Report:
        """The numbers of the whole batch, given this process's parts."""
        numbers = sum_numbers(parts, self.world)
        if self.pieces is None:
            return numbers
        counted = self.task.counted
        return {key: value * self.factors[counted.get(key, "loss")] for key, value in numbers.items()}

    def refusing_size(self, batch: BatchT) -> AbstractContextManager[None]:
        """Around a step: if the GPU's memory is too small, say how many images fit, where it can be tried."""
        images, parameter = len(batch.image_ids), f"{self.task.section}.batch_size"
        if self.world.together:
            return refuse_batch_size(images, parameter)
        return suggest_batch_size(self._attempt(batch), images, parameter)

    def _try_together(self, batch: BatchT) -> None:
        """Try the first step in every process by itself, and cut batches if it does not fit in all.

        One that ran out of memory within a step would leave the others waiting.
        """
        self.tried, images = True, len(batch.image_ids)
        if not self.task.can_be_cut:
            return
        world, replays = self.task.world, self.task.replays
        # It exchanges nothing.
        self.task.world = Pieces(images, of=self.batch_size)
        fitting = largest_fitting(self._attempt(batch), 2 * images)
        self.task.world, self.task.replays = world, replays
        found = self.world.everyones((fitting, images))
        if all(fits >= wanted for fits, wanted in found):
            return
        self._cut(max(1, fitting))
        shown = ", ".join(f"{fits} of {wanted}" for fits, wanted in found)
        print(f"{self.task.name}: images that fit in each process: {shown}; so batches are cut", flush=True)

    def _cut_to_what_fits(self, batch: BatchT, error: torch.OutOfMemoryError) -> None:
        if self.world.together or self.micro_batch != "auto" or not self.task.can_be_cut:
            raise error
        # The frames of the exception keep tensors of the failed step alive, too.
        traceback.clear_frames(error.__traceback__)
        # If not even one fits, the error is told as that of a whole batch.
        fitting = max(1, largest_fitting(self._attempt(batch), len(batch.image_ids)))
        self._cut(fitting)
        print(f"{self.task.name}: {fitting} images fit in memory at once, so batches are cut", flush=True)

    def _in_pieces(self, batch: BatchT) -> tuple[Tensor, Report]:
        assert self.pieces is not None
        return self.pieces.accumulate(
            len(batch.image_ids), lambda start, end: self._at_once(batch.piece(start, end=end))
        )

    def _at_once(self, batch: BatchT) -> tuple[Tensor, Report]:
        loss, report = self._loss(batch)
        self.scaler.scale(loss).backward()
        return loss.detach(), report

    def _loss(self, batch: BatchT) -> tuple[Tensor, Report]:
        if self.task.draws is not None:
            self.task.draws.begin(self.step.image_keys(batch.image_ids).to(self.device))
        with autocast(self.device, self.precision):
            return self.task.loss(self.model, batch.to(self.device), self.step)

    def _attempt(self, batch: BatchT) -> Callable[[int], None]:
        """Forward and backward of the first so many images of the batch, without a lasting effect."""

        def attempt(images: int) -> None:
            # The memory of a recording is not given back.
            self.task.replays = False
            self.optimiser.clear_gradients()
            self._at_once(batch.piece(0, end=images))
            self.optimiser.clear_gradients()

        return attempt

    def _cut(self, images: int) -> None:
        """Work on so many images at once from now on."""
        if not self.task.can_be_cut:
            print(f"note: {self.task.name} compares images of a batch, so runtime.micro_batch has no effect")
            return
        self.task.world = self.pieces = Pieces(images, of=self.batch_size)
        self.task.replays = False
        # What is drawn for an image must not depend on the piece that it is in.
        if self.task.draws is None:
            self.task.draws = draw_by_image(self.model)
