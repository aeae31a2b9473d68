"""A training stage around the loop: its outputs, its need for memory, its resume point."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from fsgr_model.clip.token_cache import token_shape
from fsgr_model.config.on_track_params import ScoreRange
from fsgr_model.config.training_params import OptimiserParams, PhaseParams, ScstParams
from fsgr_model.kernels.training import speed_up_training
from fsgr_model.network.assembly import Assembly, describe, save_weights
from fsgr_model.runtime.artifacts import fingerprint, whole_file, whole_folder
from fsgr_model.runtime.device import Precision
from fsgr_model.runtime.resume import shared_resume_point
from fsgr_model.runtime.row_cache import AskedPlace, choose_place, open_rows
from fsgr_model.runtime.run_reports import Tool, reports
from fsgr_model.runtime.run_signs import Watch
from fsgr_model.runtime.world import ALONE, World
from fsgr_model.text.caption_table import CaptionTable
from fsgr_model.training.batches import Batch, CaptionedImages
from fsgr_model.training.image_draws import draw_by_image
from fsgr_model.training.inputs import Inputs, captioned_images
from fsgr_model.training.loop import Loop
from fsgr_model.training.optimiser import Optimiser
from fsgr_model.training.schedule import EpochRates, describe_rates
from fsgr_model.training.step_memory import GB, StepSize, describe_need, step_bytes
from fsgr_model.training.task import Task
from fsgr_model.training.validation import make_validation


@dataclass(frozen=True)
class Run:
    """The paths that a stage reads, writes and resumes from, and what XE and SCST have in common.

    `data` is the folder of all artifacts; `train_images`: how many are trained on, None: all.
    `world`: the processes that share the work. `expected`: the scores that it should have; `report_to`: the
    tools that are told of it. These two change nothing of what is trained.
    """

    stage: str
    data: Path
    out: Path
    curve: Path
    seed: int
    save_minutes: float
    optimiser: OptimiserParams
    cache: AskedPlace = "auto"
    precision: Precision = "auto"
    train_images: int | None = None
    world: World = ALONE
    micro_batch: int | Literal["auto"] = "auto"
    expected: Sequence[ScoreRange] = ()
    report_to: Sequence[Tool] = ()


@contextmanager
def training_loop(
    run: Run,
    inputs: Inputs,
    assembly: Assembly,
    task: Task[Batch],
    *,
    params: PhaseParams,
    peak_rate: float,
    further_inputs: dict[str, Any],
    shuffle_seed: int | None = None,
) -> Iterator[Loop[Batch]]:
    """The loop of a captioner, with its features held in memory and its resume point open.

    An interrupted run with the same parameters and inputs resumes where it stopped. `further_inputs` are
    the inputs other than the lists of the dataset and the parts of the network. Of `inputs`, all training
    images are used: `run.train_images` of them were chosen before.
    """
    print(describe(assembly.captioner))
    vocabulary = assembly.vocabulary
    train, val = inputs.train, inputs.val
    images = captioned_images(train, vocabulary, params, shuffle_seed=shuffle_seed, labels=inputs.labels)
    validation_images = captioned_images(val, vocabulary, params, shuffle_seed=shuffle_seed)
    needed = step_bytes(assembly.captioner, largest_step(images, params))
    print(describe_need(task.name, needed, images=params.batch_size, device=assembly.device))
    hold_features([images, validation_images], run.cache, needed, device=assembly.device, world=run.world)
    validation = make_validation(
        validation_images, val.tokens, vocabulary, params, precision=run.precision, world=run.world
    )
    made_of = {
        "params": params.model_dump(),
        "optimiser": run.optimiser.model_dump(),
        "precision": run.precision,
        "train_images": run.train_images,
        "peak_rate": peak_rate,
        "seed": run.seed,
        "made_with": assembly.made_with,
        "images": inputs.images_sha256,
        "tokens": inputs.tokens_sha256,
        **further_inputs,
    }
    schedule = EpochRates(peak_rate, params)
    speed_up_training(assembly.captioner)
    if run.world.together:
        task.draws = draw_by_image(assembly.captioner)
    optimiser = Optimiser(
        assembly.captioner,
        run.optimiser.name,
        peak_rate,
        weight_decay=run.optimiser.weight_decay,
        visual_factor=run.optimiser.visual_lr_factor,
        heads=task.heads,
    )
    told = run.report_to if run.world.rank == 0 else ()
    with (
        shared_resume_point(run.stage, fingerprint(made_of), run.world) as resume,
        reports(told, resume.folder.name) as others,
    ):

        def on_epoch(history: list[dict[str, float]]) -> None:
            write_curve(run.curve, history)
            others.tell(history, validation.samples)

        print(f"{task.name} on {assembly.device}\n{describe_rates(schedule.rates)}", flush=True)
        yield Loop(
            assembly.captioner,
            task,
            images,
            optimiser,
            params=params,
            schedule=schedule,
            seed=run.seed,
            resume=resume,
            save_minutes=run.save_minutes,
            validate=validation.score,
            patience=params.patience,
            max_norm=run.optimiser.grad_clip_norm,
            precision=run.precision,
            world=run.world,
            micro_batch=run.micro_batch,
            on_epoch=on_epoch,
            samples=lambda: validation.samples,
            variety=lambda: validation.variety,
            watch=watch(run, images, params),
        )


def write_outputs(run: Run, assembly: Assembly, history: list[dict[str, float]]) -> None:
    """The weights to `run.out`, and the history to `run.curve`. Rank 0 writes them."""
    if run.world.rank > 0:
        return
    with whole_folder(run.out) as folder:
        save_weights(folder, assembly)
    write_curve(run.curve, history)


def write_curve(path: Path, history: list[dict[str, float]]) -> None:
    """Write a history, tab-separated, a row per epoch; a number that an epoch lacks is left empty."""
    names = list(dict.fromkeys(name for row in history for name in row))
    lines = ["\t".join(names)]
    lines += ["\t".join(f"{row[name]:.6g}" if name in row else "" for name in names) for row in history]
    with whole_file(path) as unfinished:
        unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")


def watch(run: Run, images: CaptionedImages, params: PhaseParams) -> Watch:
    """What a run is held against: its expected scores, and the length of the annotators' captions."""
    table = CaptionTable.of(images.captions)
    # Those that are sampled begin behind the first token.
    captions = int(table.captions_A.sum())
    usual_length = (int(table.words_per_image().sum()) - captions) / max(captions, 1)
    return Watch(
        {each.epoch: (each.low, each.high) for each in run.expected},
        named=f"on_track.{'scst' if isinstance(params, ScstParams) else 'xe'}",
        usual_length=usual_length if isinstance(params, ScstParams) else None,
    )


def largest_step(images: CaptionedImages, params: PhaseParams) -> StepSize:
    """The largest possible step: every image has as many caption words as the image with the most."""
    if isinstance(params, ScstParams):
        words = params.samples * params.max_length
    else:
        # A caption is read up to its last word, and predicted from its first.
        table = CaptionTable.of(images.captions)
        words = int((table.words_per_image() - table.captions_A).max())
    return StepSize(params.batch_size, words, token_shape(images.store))


def hold_features(
    splits: Sequence[CaptionedImages],
    asked: AskedPlace,
    step: int,
    *,
    device: torch.device,
    world: World = ALONE,
) -> None:
    """Choose where features of these splits are kept, given `step` bytes of a step, and put them there."""
    needed = sum(len(images.store) * images.store.row_bytes for images in splits)
    place = choose_place(asked, needed=needed, step=step, device=device, copies=world.on_machine)
    for images in splits:
        images.tokens = open_rows(images.store, place, device)
    print(f"features: {needed / GB:.2f} GB, runtime.cache: {place}", flush=True)
