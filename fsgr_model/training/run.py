"""One training stage from files to files: inputs, validation, resume point, outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fsgr_model.config.params import PhaseParams, ScstParams
from fsgr_model.network.assembly import Assembly, describe, save_weights
from fsgr_model.runtime.artifacts import fingerprint, sha256_file, whole_file, whole_folder
from fsgr_model.runtime.resume import resume_point
from fsgr_model.runtime.row_cache import AskedPlace, choose_place, hold_rows
from fsgr_model.runtime.row_store import RowStore
from fsgr_model.training.batches import CaptionedImages
from fsgr_model.training.loop import Phase, Training
from fsgr_model.training.split_data import captioned_images, drawn_images
from fsgr_model.training.step_memory import GB, StepSize, describe_need, step_bytes
from fsgr_model.training.validation import make_validation


@dataclass(frozen=True)
class Run:
    """Where a stage reads, writes and is taken up again; `data` is the folder of all artifacts."""

    stage: str
    data: Path
    out: Path
    curve: Path
    seed: int
    save_minutes: float
    cache: AskedPlace = "auto"


def train(
    run: Run,
    assembly: Assembly,
    phase: Phase,
    params: PhaseParams,
    peak_rate: float,
    further_inputs: dict[str, Any],
    shuffle_seed: int | None = None,
    labels: RowStore | None = None,
) -> None:
    """Train, then write the best weights to `run.out` and the history to `run.curve`.

    `labels`: label maps of the training images, where the phase needs them.
    An interrupted run with the same parameters and inputs goes on where it stopped.
    """
    print(describe(assembly.captioner))
    made_of = {
        "params": params.model_dump(),
        "peak_rate": peak_rate,
        "seed": run.seed,
        "made_with": assembly.made_with,
        "images": sha256_file(run.data / "dataset" / "images.json"),
        "captions": sha256_file(run.data / "dataset" / "captions.json"),
        **further_inputs,
    }
    images = captioned_images(
        run.data, "train", assembly, params.max_length, shuffle_seed, labels, drawn_images(params, run.seed)
    )
    validation_images = captioned_images(run.data, "val", assembly, params.max_length, shuffle_seed)
    needed = step_bytes(assembly.captioner, largest_step(images, params))
    print(describe_need(phase.name, needed, params.batch_size, assembly.device))
    hold_features([images, validation_images], run.cache, needed, assembly.device)
    validation = make_validation(validation_images, run.data, assembly.vocabulary, params)
    with resume_point(run.stage, fingerprint(made_of)) as resume:
        loop = Training(
            assembly.captioner,
            phase,
            images,
            validation,
            params,
            peak_rate,
            run.seed,
            resume,
            run.save_minutes,
        )
        history = loop.run()
        with whole_folder(run.out) as folder:
            save_weights(folder, assembly)
        _write_curve(run.curve, history)


def largest_step(images: CaptionedImages, params: PhaseParams) -> StepSize:
    """A step in which the captions of every image have as many words as any image's."""
    if isinstance(params, ScstParams):
        words = params.samples * params.max_length
    else:
        # A caption is read up to its last word, and predicted from its first.
        words = max(sum(len(caption) - 1 for caption in of_image) for of_image in images.captions.values())
    T, W = images.store.row_shape
    return StepSize(params.batch_size, words, (T, W))


def hold_features(
    splits: Sequence[CaptionedImages], asked: AskedPlace, step: int, device: torch.device
) -> None:
    """Choose where the features of these splits wait, beside `step` bytes of a step, and bring them there."""
    needed = sum(len(images.store) * images.store.row_bytes for images in splits)
    place = choose_place(asked, needed, step, device)
    for images in splits:
        images.tokens = hold_rows(images.store, place, device)
    print(f"features: {needed / GB:.2f} GB, runtime.cache: {place}", flush=True)


def _write_curve(path: Path, history: list[dict[str, float]]) -> None:
    """Tab-separated, a row an epoch; a number that an epoch does not have is left empty."""
    names = list(dict.fromkeys(name for row in history for name in row))
    lines = ["\t".join(names)]
    lines += ["\t".join(f"{row[name]:.6g}" if name in row else "" for name in names) for row in history]
    with whole_file(path) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
