"""The training loop of XE and SCST: epochs of steps, validation, the best network kept, resume points.

Randomness is a function of (seed, epoch, step), so a resumed run draws the same numbers as one that was
never stopped and no generator state has to be saved.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from fsgr_model.config.params import PhaseParams
from fsgr_model.network.captioner import Captioner
from fsgr_model.runtime.device import autocast
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.gpu_memory import within_memory
from fsgr_model.runtime.progress import progress
from fsgr_model.runtime.resume import ResumePoint
from fsgr_model.runtime.stopping import Overdue, Stopped, StopRequest, stop_request
from fsgr_model.runtime.tensor_file import load_tensors, save_tensors
from fsgr_model.training.batches import Batch, CaptionedImages
from fsgr_model.training.moment import Moment
from fsgr_model.training.optimiser import Optimiser
from fsgr_model.training.schedule import describe_rates, rate_table
from fsgr_model.training.validation import Validation


class Phase(Protocol):
    """What differs between XE and SCST.

    `heads`: what is trained with the network and dropped at the end; an empty module where there is nothing.
    """

    name: str
    uses_dropout: bool
    heads: nn.Module

    def loss(self, model: Captioner, batch: Batch, moment: Moment) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch, and further numbers to report."""

    def doubt(self, model: Captioner, means: dict[str, float]) -> str | None:
        """Why the mean numbers of an epoch behind the warm-up look as if nothing were learned, if they do."""

    def tensors(self) -> dict[str, Tensor]:
        """What a resume point must hold of the phase itself, by name."""

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` gave; names of other things are passed over."""


@dataclass
class Progress:
    """Where a run stands; saved in every resume point.

    `epoch` counts from 1 and `step` counts the finished steps of that epoch; `sums` are of those steps.
    """

    epoch: int = 1
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = -math.inf
    epochs_since_best: int = 0


class Training:
    """One phase of training on one network."""

    def __init__(
        self,
        model: Captioner,
        phase: Phase,
        images: CaptionedImages,
        validation: Validation,
        params: PhaseParams,
        peak_rate: float,
        seed: int,
        resume: ResumePoint,
        save_minutes: float,
    ) -> None:
        self.model, self.phase, self.images, self.validation = model, phase, images, validation
        self.params, self.seed, self.resume = params, seed, resume
        self.save_seconds = 60 * save_minutes
        self.rates = rate_table(peak_rate, params)
        self.device = next(model.parameters()).device
        self.optimiser = Optimiser(
            model, params.optimiser, peak_rate, params.weight_decay, params.visual_lr_factor, phase.heads
        )
        self.progress = Progress()

    @property
    def best_file(self) -> Path:
        return self.resume.folder / "best.safetensors"

    def run(self) -> list[dict[str, float]]:
        """Train to the last epoch or until patience ends; leave the best weights in the network.

        Returns:
            the history, a row an epoch; row 0 is the network as it came.

        Raises:
            UserError: the loss or its gradient is not finite, or the memory of the GPU too small.
            Stopped: SIGTERM or Ctrl-C came; a resume point was saved.
        """
        print(f"{self.phase.name} on {self.device}\n{describe_rates(self.rates)}", flush=True)
        self._restore()
        with stop_request() as stop:
            try:
                self._train(stop)
            except Overdue as overdue:
                overdue.kept = f"a step took too long; what was saved last is kept in {self.resume.folder}"
                raise
            except Stopped as stopped:
                self._save()
                stopped.kept = f"saved {self._place()}, step {self.progress.step} in {self.resume.folder}"
                raise
        best, _ = load_tensors(self.best_file, f"delete {self.resume.folder} to begin this stage anew")
        self.model.load_state_dict(best, strict=False)
        return self.progress.history

    def _train(self, stop: StopRequest) -> None:
        if not self.progress.history:
            self._finish_epoch(0, stop)
        while self.progress.epoch <= self.params.epochs and not self._out_of_patience():
            self._train_epoch(stop)
            self._finish_epoch(self.progress.epoch, stop)

    def _place(self) -> str:
        return f"{self.phase.name} epoch {self.progress.epoch}/{self.params.epochs}"

    def _out_of_patience(self) -> bool:
        return self.progress.epochs_since_best >= self.params.patience

    def _train_epoch(self, stop: StopRequest) -> None:
        now = self.progress
        groups = self.images.epoch_groups(self.params.batch_size, self.seed, now.epoch)
        self.optimiser.set_rate(self.rates[now.epoch - 1])
        saved_at = started_at = time.monotonic()
        self.images.waited = 0.0
        for batch in progress(self._batches(groups), len(groups), self._place(), "steps", done=now.step):
            self.model.train(self.phase.uses_dropout)
            with stop.held_back():
                within_memory(
                    partial(self._train_step, batch),
                    partial(self._try_images, batch),
                    len(batch.image_ids),
                    f"{self.phase.name.lower()}.batch_size",
                )
            if time.monotonic() - saved_at > self.save_seconds:
                self._save()
                saved_at = time.monotonic()
        took = time.monotonic() - started_at
        print(
            f"{self._place()}: waited {self.images.waited / max(took, 1e-9):.1%} of {took:.1f} s for features"
        )

    def _batches(self, groups: list[list[int]]) -> Iterator[Batch]:
        yield from self.images.batches(groups[self.progress.step :])

    def _train_step(self, batch: Batch) -> None:
        now = self.progress
        moment = Moment(self.seed, now.epoch, now.step)
        torch.manual_seed(moment.torch_seed())
        with autocast(self.device):
            loss, report = self.phase.loss(self.model, batch.to(self.device), moment)
        loss.backward()
        norm = self.optimiser.gradient_norm()
        # One wait for the device a step.
        loss_value, norm_value = torch.stack([loss.detach().float(), norm]).tolist()
        if not (math.isfinite(loss_value) and math.isfinite(norm_value)):
            raise UserError(
                f"{self.phase.name} epoch {now.epoch}, step {now.step + 1}: loss {loss_value}, "
                f"gradient norm {norm_value}, learning rate {self.rates[now.epoch - 1]:.3g}, "
                f"images {batch.image_ids}: not finite, so training stops; the best network so far is "
                f"{self.best_file}; try a smaller learning rate"
            )
        self.optimiser.clip_gradients(norm_value, self.params.grad_clip_norm)
        self.optimiser.step()
        now.step += 1
        for key, value in {"loss": loss_value, **report}.items():
            now.sums[key] = now.sums.get(key, 0.0) + value

    def _try_images(self, batch: Batch, images: int) -> None:
        """Forward and backward of the first images of a batch, only to see whether the memory holds them."""
        now = self.progress
        self.optimiser.clear_gradients()
        with autocast(self.device):
            part = batch.first(images).to(self.device)
            self.phase.loss(self.model, part, Moment(self.seed, now.epoch, now.step))[0].backward()
        self.optimiser.clear_gradients()

    def _finish_epoch(self, epoch: int, stop: StopRequest) -> None:
        """Validate, keep the best weights, write the epoch down, save."""
        score = self.validation.score(self.model, self.device)
        with stop.held_back():
            self._write_down(epoch, score)

    def _write_down(self, epoch: int, score: float) -> None:
        now = self.progress
        means = {key: total / now.step for key, total in now.sums.items()}
        rate = self.rates[epoch - 1] if epoch else 0.0
        now.history.append({"epoch": epoch, "lr": rate, **means, "val_CIDEr": score})
        now.epochs_since_best += 1
        if score > now.best:
            now.best, now.epochs_since_best = score, 0
            save_tensors(self.best_file, self._weights(), {})
        report = "  ".join(f"{key} {value:.4g}" for key, value in now.history[-1].items() if key != "epoch")
        print(
            f"{self.phase.name} epoch {epoch}: {report}{'  (best)' if score == now.best else ''}", flush=True
        )
        # The mean over the first epoch holds the steps of a network that knew nothing.
        if epoch > max(1, self.params.warmup_epochs) and (doubt := self.phase.doubt(self.model, means)):
            print(f"warning: {self.phase.name} epoch {epoch}: {doubt}", flush=True)
        now.epoch, now.step, now.sums = epoch + 1, 0, {}
        self._save()

    def _weights(self) -> dict[str, Tensor]:
        tensors = self.model.checkpoint_tensors()
        return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}

    def _save(self) -> None:
        tensors = {f"model.{name}": weight for name, weight in self._weights().items()}
        self.resume.save(tensors | self.optimiser.tensors() | self.phase.tensors(), asdict(self.progress))

    def _restore(self) -> None:
        saved = self.resume.load()
        if saved is None:
            return
        tensors, progress_so_far = saved
        self.progress = Progress(**progress_so_far)
        weights = {name: tensors[f"model.{name}"] for name in self.model.checkpoint_tensors()}
        self.model.load_state_dict(weights, strict=False)
        self.optimiser.load(tensors)
        self.phase.load(tensors)
        print(f"going on after epoch {self.progress.epoch - 1}, step {self.progress.step}", flush=True)
