"""Parameters of older versions that have another place or form today: a file is told all of them at once."""

from collections.abc import Callable
from typing import Any

from fsgr_model.config.dataset_params import foreign_names

Old = Callable[[object], bool]


def _is_present(value: object) -> bool:
    return value is not ...


def _is_text(value: object) -> bool:
    return isinstance(value, str)


WHOLE_MEMORY = (
    "model.memory: null, {kind: prototypes, size, window, refresh, neighbours} or {kind: learned, size}"
)
WHOLE_OPTIMISER = "{name, weight_decay, grad_clip_norm, visual_lr_factor}"


def _present(*names: str) -> dict[str, Old]:
    return dict.fromkeys(names, _is_present)


def _optimiser_of(phase: str) -> dict[str, Old]:
    names = ("weight_decay", "grad_clip_norm", "visual_lr_factor")
    return {f"{phase}.optimiser": _is_text, **_present(*(f"{phase}.{name}" for name in names))}


# Dotted names of an older version with what distinguishes them from today's, and today's form.
MOVED: tuple[tuple[dict[str, Old], str], ...] = (
    (
        {
            "model.memory": _is_text,
            **_present(*(f"model.memory_{name}" for name in ("size", "window", "refresh", "neighbours"))),
        },
        WHOLE_MEMORY,
    ),
    (
        _present("model.adapters", "model.prompts", "model.prompt_start"),
        "model.tail: null or {adapters, prompts, prompt_start}",
    ),
    (_present("xe.contrast_weight", "xe.contrast_anchors"), "xe.contrast: null or {weight, anchors}"),
    ({"xe.alignment": _is_text, "xe.alignment_weight": _is_present}, "xe.alignment: null or {weight}"),
    (_present("xe.train_images", "scst.train_images"), "train_images at the top, once for both"),
    (_present("xe.precision", "scst.precision", "decode.precision"), "precision at the top, once for all"),
    (_optimiser_of("xe"), f"optimiser: {WHOLE_OPTIMISER} at the top"),
    (_optimiser_of("scst"), f"scst.optimiser: null for the one at the top, or {WHOLE_OPTIMISER}"),
    (_present("xe.warmup_epochs", "xe.decay"), "xe.schedule: null or {warmup_epochs, decay}"),
    (_present("scst.warmup_epochs", "scst.decay"), "scst.schedule: null or {warmup_epochs, decay}"),
    (
        _present("labels.prompt_denoising", "labels.key_smoothing"),
        "labels.refine: null or {prompt_denoising, key_smoothing}",
    ),
    (_present("vocab.count_in", "vocab.file"), "vocab.words: train, train_val or a file"),
    (_present("decode.batch_size"), "runtime.caption_batch, or nothing for 50"),
    (
        _present("evaluate.meteor", "evaluate.tokenizer", "evaluate.spice"),
        "evaluate.java: those of [meteor, spice, tokenizer] that Java computes",
    ),
)


def moved(values: Any) -> list[str]:
    """What to write in place of each group of parameters of a file that have another place or form today."""
    found = []
    for names, today in MOVED:
        if old := [name for name, is_old in names.items() if is_old(_value(values, name))]:
            found.append(f"{', '.join(old)}: write {today}")
    if found and (foreign := foreign_names(values.get("dataset"))):
        named = ", ".join(f"dataset.{name}" for name in foreign)
        found.append(f"{named}: leave out, format {values['dataset']['format']} has none of them")
    return found


def _value(values: Any, name: str) -> Any:
    """The value of a dotted name; `...` if there is none."""
    for part in name.split("."):
        values = values.get(part, ...) if isinstance(values, dict) else ...
    return values
