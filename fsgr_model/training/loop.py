"""The one training loop: epochs of steps, validation, the best network kept, resume points."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, Literal, Protocol

import torch
from torch import Tensor, nn

from fsgr_model.runtime.device import Precision
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.live_report import LiveReport
from fsgr_model.runtime.progress import progress
from fsgr_model.runtime.resume import ResumePoint
from fsgr_model.runtime.run_signs import Watch
from fsgr_model.runtime.stopping import Overdue, Stopped, StopRequest, stop_request
from fsgr_model.runtime.tensor_file import load_tensors, save_tensors
from fsgr_model.runtime.world import ALONE, OthersLost, World
from fsgr_model.training.gradient import Gradient
from fsgr_model.training.optimiser import Optimiser
from fsgr_model.training.schedule import Schedule
from fsgr_model.training.task import BatchT, Progress, Source, Step, Task
from fsgr_model.training.together import check_weights_agree
from fsgr_model.training.variety import Variety

Score = Callable[[Any, torch.device], float]
History = list[dict[str, float]]
Samples = Sequence[tuple[int, str]]


class LoopParams(Protocol):
    """The parameters of a section of params.yaml that the loop reads."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...


class Loop(Generic[BatchT]):
    """Trains one network on one task.

    Args:
        validate: the score of the network, higher is better; the best network is kept. None: the last is.
        patience: epochs without a better score after which training ends.
        max_norm: gradients are clipped to this length; None: never.
        precision: of the products in the forward pass; with fp16 the loss is scaled up.
        world: the processes that share each batch; all hold the same weights, and rank 0 writes the files.
        micro_batch: images that a process works on at once; auto: its whole share, or what fits of it.
        on_epoch: is called with the history after every epoch, so that it can be watched.
        samples: captions of the last validation, by image id, for whoever watches.
        variety: how the captions of the last validation differ; None: there are none.
        watch: what the run is held against; what is wrong after an epoch is said.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task[BatchT],
        source: Source[BatchT],
        optimiser: Optimiser,
        *,
        params: LoopParams,
        schedule: Schedule,
        seed: int,
        resume: ResumePoint,
        save_minutes: float,
        validate: Score | None = None,
        patience: int | None = None,
        max_norm: float | None = None,
        precision: Precision = "auto",
        world: World = ALONE,
        micro_batch: int | Literal["auto"] = "auto",
        on_epoch: Callable[[History], None] = lambda history: None,
        samples: Callable[[], Samples] = tuple,
        variety: Callable[[], Variety | None] = lambda: None,
        watch: Watch | None = None,
    ) -> None:
        self.model, self.task, self.source, self.optimiser = model, task, source, optimiser
        self.world = world
        self.epochs, self.batch_size = params.epochs, params.batch_size
        self.schedule, self.seed, self.resume = schedule, seed, resume
        self.validate, self.patience, self.max_norm = validate, patience, max_norm
        self.save_seconds = 60 * save_minutes
        self.saved_at = time.monotonic()
        self.device = next(model.parameters()).device
        self.precision: Precision = precision
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.progress = Progress()
        self.half_done = False
        self.gradient = Gradient(
            model,
            task,
            optimiser,
            self.scaler,
            precision=precision,
            world=world,
            batch_size=params.batch_size,
            micro_batch=micro_batch,
        )
        self.on_epoch, self.samples = on_epoch, samples
        self.variety, self.watch = variety, watch or Watch()
        self.live = LiveReport(resume.folder, task.name, params.epochs)

    @property
    def best_file(self) -> Path:
        return self.resume.folder / "best.safetensors"

    def run(self) -> list[dict[str, float]]:
        """Train to the last epoch or until patience ends; leave the best weights in the network.

        Returns:
            the history, a row per epoch; where there is a validation, row 0 is the network before training.

        Raises:
            UserError: the loss or its gradient is not finite, or the memory of the GPU is too small.
            Stopped: SIGTERM or Ctrl-C came; a resume point was saved.
        """
        self._restore()
        with stop_request() as stop, self._save_when_stopped():
            if self.validate and not self.progress.history:
                self._finish_epoch(0, stop)
            while self.progress.epoch <= self.epochs and not self._out_of_patience():
                with self._around_epoch(stop):
                    for batch in self._batches():
                        with self._around_step(stop, batch):
                            self._train_step(batch)
                        self._save_if_due()
                        self._report_if_due()
                self._finish_epoch(self.progress.epoch, stop)
        self.world.wait()
        if self.validate:
            best, _ = load_tensors(self.best_file, f"delete {self.resume.folder} to start this stage again")
            self.model.load_state_dict(best, strict=False)
            # Rank 0 deletes the file.
            self.world.wait()
            if sign := self.task.nothing_gained(self.progress.history):
                print(f"warning: {self.task.name}: {sign}", flush=True)
        return self.progress.history

    def _around_epoch(self, stop: StopRequest) -> AbstractContextManager[None]:
        # Alone, a signal may also end the wait for features. Several processes all end after the same step.
        return stop.deferred() if self.world.together else nullcontext()

    @contextmanager
    def _around_step(self, stop: StopRequest, batch: BatchT) -> Iterator[None]:
        with nullcontext() if self.world.together else stop.deferred(), self.gradient.refusing_size(batch):
            yield
        told = stop.signal_name is not None
        if self.world.together and self.world.sum(torch.tensor([int(told)])).item():
            raise Stopped(stop.signal_name or "a signal to another process")

    def _batches(self) -> Iterator[BatchT]:
        """The remaining batches of the epoch."""
        now, first, started_at = self.progress, self.progress.step, time.monotonic()
        groups = self.source.epoch_groups(self.batch_size, seed=self.seed, epoch=now.epoch)
        self.steps_per_epoch = len(groups)
        self.world.bytes_given()
        coming = self.source.batches([self.world.share(group) for group in groups[now.step :]])
        yield from progress(coming, len(groups), self._place(), unit="steps", done=now.step)
        took = time.monotonic() - started_at
        if self.source.waited is not None:
            share = self.source.waited / max(took, 1e-9)
            print(f"{self._place()}: waited {share:.1%} of {took:.1f} s for features")
        if self.world.together:
            self._report_exchanges(len(groups) - first)

    def _report_exchanges(self, steps: int) -> None:
        waited = ", ".join(f"{seconds:.1f}" for seconds in self.world.seconds_waited())
        print(f"{self._place()}: seconds of each process in exchanges with the others: {waited}")
        given = ", ".join(
            f"{kind} {count // max(steps, 1):,}" for kind, count in self.world.bytes_given().items()
        )
        print(f"{self._place()}: bytes that a process gives to the others in a step: {given}", flush=True)

    def _train_step(self, batch: BatchT) -> None:
        now = self.progress
        step = Step(self.seed, now.epoch, now.step)
        rate = self.schedule(now.epoch, now.step, self.steps_per_epoch)
        self.optimiser.set_rate(rate)
        self.model.train(self.task.uses_dropout)
        torch.manual_seed(step.torch_seed())
        # Until the weights change, only what the task keeps is already that of the next step.
        self.half_done = bool(self.task.tensors())
        loss, report = self.gradient.compute(batch, step)
        self.optimiser.unscale(self.scaler)
        norm = self.optimiser.gradient_norm()
        # The loop waits for the device once per step.
        loss_value, norm_value = torch.stack([loss.float(), norm]).tolist()
        numbers = self.gradient.means({"loss": loss_value, **report})
        self._check_finite(numbers["loss"], norm=norm_value, rate=rate, batch=batch)
        if self.max_norm is not None and math.isfinite(norm_value):
            self.optimiser.clip_gradients(norm_value, max_norm=self.max_norm)
        self.half_done = True
        self.optimiser.step(self.scaler)
        self.task.after_step(self.model)
        self.half_done = False
        now.step += 1
        for key, value in numbers.items():
            now.sums[key] = now.sums.get(key, 0.0) + value
        if math.isfinite(norm_value):
            now.norm_sum, now.norm_steps = now.norm_sum + norm_value, now.norm_steps + 1

    def _finish_epoch(self, epoch: int, stop: StopRequest) -> None:
        """Validate, keep the best weights, add the epoch to the history, save."""
        score = self.validate(self.model, self.device) if self.validate else None
        check_weights_agree(self._weights(), self.world)
        with stop.deferred():
            self._note_epoch(epoch, score)
            self._save()
            if self.world.rank == 0:
                self.on_epoch(self.progress.history)
            self._report()

    def _note_epoch(self, epoch: int, score: float | None) -> None:
        now = self.progress
        means = {key: total / now.step for key, total in now.sums.items()}
        rate = self.schedule(epoch, now.step - 1, self.steps_per_epoch) if epoch else 0.0
        row = {"epoch": epoch, "lr": rate, **means}
        now.history.append(row if score is None else row | {"val_CIDEr": score} | self._counted())
        now.epochs_since_best += 1
        if score is not None and score > now.best:
            now.best, now.epochs_since_best = score, 0
            if self.world.rank == 0:
                save_tensors(self.best_file, self._weights(), {})
        shown = "  ".join(f"{key} {value:.4g}" for key, value in now.history[-1].items() if key != "epoch")
        best = "  (best)" if score is not None and score == now.best else ""
        print(f"{self.task.name} epoch {epoch}: {shown}{best}", flush=True)
        now.close_epoch(epoch)
        self._warn(epoch, means)

    def _warn(self, epoch: int, means: dict[str, float]) -> None:
        """Say what is wrong with an epoch, and keep it for whoever watches."""
        now = self.progress
        signs = self.watch.signs(now.history, now.gradients)
        # In warm-up epochs the means include the steps of a network that has not learned anything yet.
        if epoch > (0 if self.task.begins_trained else max(1, self.schedule.warmup_epochs)):
            signs += self.task.signs(self.model, means, self.variety(), now.history)
        for sign in signs:
            now.warnings.append(f"epoch {epoch}: {sign}")
            print(f"warning: {self.task.name} epoch {epoch}: {sign}", flush=True)

    def _counted(self) -> dict[str, float]:
        variety = self.variety()
        return {} if variety is None else {"val_distinct": variety.distinct}

    def _place(self) -> str:
        return f"{self.task.name} epoch {self.progress.epoch}/{self.epochs}"

    def _out_of_patience(self) -> bool:
        return self.patience is not None and self.progress.epochs_since_best >= self.patience

    def _check_finite(self, loss: float, *, norm: float, rate: float, batch: BatchT) -> None:
        # A scale that is too large is lowered after the step, and the step is skipped.
        scale_too_large = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        if math.isfinite(loss) and (math.isfinite(norm) or scale_too_large):
            return
        now = self.progress
        kept = f" and the best network so far is {self.best_file}" if self.validate else ""
        raise UserError(
            f"{self.task.name} epoch {now.epoch}, step {now.step + 1}: loss {loss}, gradient norm {norm}, "
            f"learning rate {rate:.3g}, images {batch.image_ids}: not finite, so training stops{kept}; "
            "try a smaller learning rate"
        )

    @contextmanager
    def _save_when_stopped(self) -> Iterator[None]:
        try:
            yield
        except Overdue as overdue:
            overdue.kept = f"a step took too long; the last resume point is kept in {self.resume.folder}"
            raise
        except Stopped as stopped:
            self._save()
            stopped.kept = f"saved {self._place()}, step {self.progress.step} in {self.resume.folder}"
            raise
        except OthersLost as lost:
            lost.place = f"{self._place()}, step {self.progress.step + 1}"
            if lost.is_first and not self.half_done:
                self._write_resume_point()
            raise

    def _weights(self) -> dict[str, Tensor]:
        tensors = self.task.weights(self.model)
        return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}

    def _scale(self) -> dict[str, Tensor]:
        """The state of the scaler as named tensors; empty where it is off."""
        state = self.scaler.state_dict()
        return {f"scaler.{name}": torch.tensor(value) for name, value in state.items()}

    def _save_if_due(self) -> None:
        if time.monotonic() - self.saved_at > self.save_seconds:
            self._save()

    def _report_if_due(self) -> None:
        if self.live.is_due():
            self._report()

    def _report(self) -> None:
        """Tell whoever watches how far the run is; of several processes rank 0 does."""
        if self.world.rank > 0:
            return
        now = self.progress
        share = now.step / self.steps_per_epoch if now.step else 0.0
        self.live.write(now.epoch - 1 + share, now.history, self.samples(), now.warnings)

    def _save(self) -> None:
        if self.world.rank == 0:
            self._write_resume_point()

    def _write_resume_point(self) -> None:
        tensors = {f"model.{name}": weight for name, weight in self._weights().items()}
        tensors |= self.optimiser.tensors() | self.task.tensors() | self._scale()
        self.resume.save(tensors, asdict(self.progress))
        self.saved_at = time.monotonic()

    def _restore(self) -> None:
        saved = self.resume.load()
        # No process reads what rank 0 has already replaced.
        self.world.wait()
        if saved is None:
            # Prompts that start from patches may have other bits on another machine.
            self.world.give(self.optimiser.weights())
            return
        tensors, progress_so_far = saved
        self.progress = Progress(**progress_so_far)
        weights = {name: tensors[f"model.{name}"] for name in self.task.weights(self.model)}
        self.model.load_state_dict(weights, strict=False)
        self.optimiser.load(tensors)
        self.task.load(tensors)
        if self.scaler.is_enabled():
            state = {name: tensors[f"scaler.{name}"].item() for name in self.scaler.state_dict()}
            self.scaler.load_state_dict(state)
        print(f"going on after epoch {self.progress.epoch - 1}, step {self.progress.step}", flush=True)
