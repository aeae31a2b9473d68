"""Estimates how long a run takes here: each kind of step is timed for seconds, on made-up data of real size.

Shapes: B images, S captions per image, L positions, T tokens of the cache, W vision width there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fsgr_model.checkup.blueprint import Blueprint, draw_blueprint
from fsgr_model.checkup.dataset import DatasetSize
from fsgr_model.checkup.findings import Findings
from fsgr_model.checkup.team import BY_ITSELF, Team
from fsgr_model.config.params import Params
from fsgr_model.inference.decoding import greedy
from fsgr_model.runtime.device import autocast, pick_device
from fsgr_model.runtime.unset_weights import UnsetWeights
from fsgr_model.scoring.cider_d import CiderD
from fsgr_model.scoring.document_frequencies import DocumentFrequencies
from fsgr_model.text.vocabulary import BOS, EOS, SPECIALS
from fsgr_model.training.batches import Batch
from fsgr_model.training.contrast import PatchContrast
from fsgr_model.training.optimiser import Optimiser
from fsgr_model.training.scst import SelfCritical
from fsgr_model.training.task import Step, Task
from fsgr_model.training.xe import CrossEntropy

# Five kinds of steps, and building the network, within 30 seconds.
SECONDS_PER_KIND = 5.0
HOUR = 3600.0
FIRST = Step(seed=0, epoch=1, index=0)


@dataclass(frozen=True)
class Timed:
    """Seconds per step with all of its images, extrapolated from the `images` that were timed."""

    seconds: float
    images: int


def timed(step: Callable[[int], None], images: int, budget: float = SECONDS_PER_KIND) -> Timed:
    """Time `step(n)` with as many of `images` as fit in about `budget` seconds, at least one."""
    first = _seconds(step, 1)  # also warms up
    if 2 * first > budget:
        return Timed(first * images, 1)
    again = _seconds(step, 1)
    count = min(images, max(1, int((budget - first - again) / again)))
    return Timed(_seconds(step, count) * images / count, count)


def _seconds(step: Callable[[int], None], images: int) -> float:
    start = time.perf_counter()
    step(images)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


class Steps:
    """A step of each kind on `n` made-up images, as the stages make them."""

    def __init__(self, plan: Blueprint, size: DatasetSize, sides: tuple[int, int], params: Params) -> None:
        self.plan, self.size, self.params = plan, size, params
        self.height, self.width = sides
        self.device = next(plan.captioner.parameters()).device
        self.rng = np.random.default_rng(0)

    @torch.inference_mode()
    def features(self, n: int) -> None:
        self.plan.trunk(torch.randn(n, 3, self.height, self.width, device=self.device)).cpu()

    @torch.inference_mode()
    def labels(self, n: int) -> None:
        self.plan.tail.aligned(self._batch(n).tokens_BTW).cpu()

    @torch.no_grad()
    def validation(self, n: int) -> None:
        model = self.plan.captioner.eval()
        with autocast(self.device, self.params.precision):
            start = model.encode(self._batch(n).tokens_BTW).start
            greedy(model.step, start, n, max_length=self.params.xe.max_length)

    def xe(self, n: int) -> None:
        xe = self.params.xe
        contrast = [PatchContrast(xe.contrast.weight, xe.contrast.anchors)] if xe.contrast else []
        self._train(CrossEntropy(contrast), self._batch(n))

    def scst(self, n: int) -> None:
        batch, scst = self._batch(n), self.params.scst
        references = dict(zip(batch.image_ids, batch.caption_BSL.tolist(), strict=True))
        frequencies = DocumentFrequencies.build(references.values(), self.plan.words)
        reward = CiderD(references, frequencies, scst.end_token)
        task = SelfCritical(
            reward, num_samples=scst.samples, max_length=scst.max_length, baseline=scst.baseline
        )
        self._train(task, batch)

    def _train(self, task: Task, batch: Batch) -> None:
        model = self.plan.captioner.train(task.uses_dropout)
        asked = self.params.optimiser
        optimiser = Optimiser(model, asked.name, self.params.lr, weight_decay=asked.weight_decay)
        with autocast(self.device, self.params.precision):
            loss, _ = task.loss(model, batch, FIRST)
        loss.backward()
        optimiser.clip_gradients(optimiser.gradient_norm().item(), max_norm=asked.grad_clip_norm)
        optimiser.step()

    def _batch(self, n: int) -> Batch:
        """A batch whose captions are as long as the longest one of the dataset, which is an upper bound."""
        (T, W), S = self.plan.token_shape, self.size.captions_per_image
        L = min(self.size.longest, self.params.xe.max_length - 1)
        word_BSL = self.rng.integers(len(SPECIALS), self.plan.words, (n, S, L))
        caption_BSL = np.pad(word_BSL, ((0, 0), (0, 0), (1, 1)), constant_values=((0, 0), (0, 0), (BOS, EOS)))
        label_BG = self.rng.integers(0, self.plan.concepts, (n, self.plan.patches))
        tokens_BTW = torch.randn(n, T, W, dtype=torch.float16)
        batch = Batch(list(range(n)), tokens_BTW, torch.from_numpy(caption_BSL), torch.from_numpy(label_BG))
        return batch.to(self.device)


def estimate_hours(
    size: DatasetSize,
    config: dict[str, Any],
    name: str,
    params: Params,
    *,
    concepts: int,
    words: int,
    findings: Findings,
    team: Team = BY_ITSELF,
) -> None:
    """Time every kind of step, and report the hours of each stage as if early stopping never ended one.

    Of several processes, the largest share of a batch is timed, with a process's share of the cores; the
    gradients that travel in every step are reported in bytes. Not included are drawing the demo, training a
    CLIP, the losses of `xe.alignment`, rewards other than CIDEr-D, the search for prototypes, and the short
    stages.
    """
    start = time.perf_counter()
    plan = build_with_zeros(config, name, params, concepts, words=words)
    steps = Steps(plan, size, picture_sides(config), params)
    try:
        with team.threads_of_one():
            found = time_all(steps, params, team)
    except torch.OutOfMemoryError:
        findings.problem(
            "memory: a step does not fit into the memory of the GPU; lower runtime.image_batch, "
            "xe.batch_size and scst.batch_size"
        )
        return
    took = time.perf_counter() - start
    seconds = stage_seconds(size, params, {kind: each.seconds for kind, each in found.items()}, team)
    shown = ", ".join(f"{stage} {each / HOUR:.2f}" for stage, each in seconds.items())
    findings.fact("hours", f"about {sum(seconds.values()) / HOUR:.2f} at most on {steps.device}: {shown}")
    each_step = ", ".join(f"{kind} {each.seconds:.3g} s ({each.images})" for kind, each in found.items())
    findings.fact("measured", f"in {took:.0f} s, a step (with so many images timed): {each_step}")
    if team.size > 1:
        gradients = sum(weight.nbytes for weight in plan.captioner.trained_weights().values())
        findings.fact(
            "exchanged",
            f"{gradients / 1e6:.1f} MB of gradients by each of {team.size} processes in every training step; "
            "the hours leave it out",
        )


def picture_sides(config: dict[str, Any]) -> tuple[int, int]:
    """Height and width of the pictures that a CLIP of open_clip's config sees."""
    found = config["vision_cfg"]["image_size"]
    height, width = found if isinstance(found, list | tuple) else (found, found)
    return height, width


def build_with_zeros(
    config: dict[str, Any], name: str, params: Params, concepts: int, *, words: int
) -> Blueprint:
    """Build the network with zero weights: steps take as long as with others, and nothing is initialised."""
    with UnsetWeights():
        plan = draw_blueprint(config, name, params, concepts, words=words, device=pick_device())
    for part in (plan.trunk, plan.tail, plan.captioner):
        for weight in part.parameters():
            weight.detach().zero_()
    return plan


def time_all(steps: Steps, params: Params, team: Team = BY_ITSELF) -> dict[str, Timed]:
    """Time each kind of step, with as many images as a process of its stage takes at once."""
    return {
        "features": timed(steps.features, params.runtime.image_batch),
        "labels": timed(steps.labels, params.runtime.image_batch),
        "validation": timed(steps.validation, params.xe.batch_size),
        "XE": timed(steps.xe, team.largest_share(params.xe.batch_size)),
        "SCST": timed(steps.scst, team.largest_share(params.scst.batch_size)),
    }


def stage_seconds(
    size: DatasetSize, params: Params, step: dict[str, float], team: Team = BY_ITSELF
) -> dict[str, float]:
    """Seconds of the long stages, computed from the seconds per step of each kind.

    Batches of features, labels and validation are dealt out to the processes, those of training are shared.
    """
    workers = max(params.runtime.workers, 1)
    decoding = size.all_images * size.decoding.seconds_each / workers if size.decoding else 0.0
    batches = size.all_images / params.runtime.image_batch / team.size
    # Each process has workers of its own; on a CPU they share its cores.
    decoding_of_features = decoding / (team.size if team.gpus else 1)
    trained = params.train_images or size.images["train"]
    training = {
        stage: phase.epochs
        * (
            phase.steps_per_epoch(trained) * step[kind]
            + size.images["val"] / params.xe.batch_size / team.size * step["validation"]
        )
        for stage, kind, phase in (("train_xe", "XE", params.xe), ("train_scst", "SCST", params.scst))
    }
    return {
        "dataset": decoding,
        "features": max(batches * step["features"], decoding_of_features),
        "labels": batches * step["labels"],
        **training,
    }
