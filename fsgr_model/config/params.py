"""Every parameter of params.yaml: its type, its bounds, and one sentence that says what it does.

Unknown names, wrong types and values out of range are refused in one line before anything runs.
The file is read as DVC reads it; numbers that a program wrote as text become numbers again.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from fsgr_model.config.dataset_params import DatasetParams
from fsgr_model.config.model_params import ModelParams
from fsgr_model.config.section import Count, Fraction, Rate, Section
from fsgr_model.config.training_params import PRECISION, ScstParams, XeParams
from fsgr_model.runtime.artifacts import load_yaml
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.precision import Precision

# What pydantic adds to the name of a parameter that may have one of several types.
UNION_MEMBERS = ("str", "PerSplit", "prototypes", "learned")


def _is_present(value: object) -> bool:
    return value is not ...


def _is_text(value: object) -> bool:
    return isinstance(value, str)


WHOLE_MEMORY = (
    "model.memory: null, {kind: prototypes, size, window, refresh, neighbours} or {kind: learned, size}"
)
KINDS = "'prototypes', 'learned'"
# Section, names of an older version with what distinguishes them from today's, and today's form.
MOVED: tuple[tuple[str, dict[str, Callable[[object], bool]], str], ...] = (
    (
        "model",
        {
            "memory": _is_text,
            "memory_size": _is_present,
            "memory_window": _is_present,
            "memory_refresh": _is_present,
            "memory_neighbours": _is_present,
        },
        WHOLE_MEMORY,
    ),
    (
        "model",
        {"adapters": _is_present, "prompts": _is_present, "prompt_start": _is_present},
        "model.tail: null or {adapters, prompts, prompt_start}",
    ),
    (
        "xe",
        {"contrast_weight": _is_present, "contrast_anchors": _is_present},
        "xe.contrast: null or {weight, anchors}",
    ),
    ("xe", {"alignment": _is_text, "alignment_weight": _is_present}, "xe.alignment: null or {weight}"),
)


class ClipTrainingParams(Section):
    """Contrastive training of a small CLIP from scratch (`clip.pretrained: demo`)."""

    epochs: Count = Field(description="passes over the training split, one caption per image and pass")
    batch_size: Annotated[int, Field(ge=8)] = Field(description="image-caption pairs per step")
    lr: Rate = Field(description="peak learning rate of AdamW, cosine decay after the warm-up")
    weight_decay: Annotated[float, Field(ge=0)] = Field(description="weight decay of AdamW on matrices")
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(description="epochs of linear warm-up")
    shift: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="pictures are shifted by up to this share of their side, differently in every epoch"
    )
    gray_scale_prob: Fraction = Field(
        0.0,
        description="probability that a picture loses its colours in a step, so that shapes are learned too",
    )
    seed: Annotated[int, Field(ge=0)] = Field(42, description="of this training")


class ClipParams(Section):
    """Which CLIP, and where it is cut."""

    model: str = Field(
        description="open_clip architecture (ViT-B-16, RN50), open_clip JSON config, or a CLIP's own folder"
    )
    pretrained: str = Field(
        description="open_clip tag (openai), path of a checkpoint, folder (model's own) or demo (train here)"
    )
    cut: Annotated[int, Field(ge=0)] = Field(
        description="first block of the tail: blocks below it are cached"
    )
    resize_mode: Literal["squash", "shortest"] = Field(
        "squash",
        description="squash keeps the whole image, as FSGR does; shortest crops its centre, as CLIP does",
    )
    training: ClipTrainingParams | None = Field(None, description="settings for pretrained: demo")

    @model_validator(mode="after")
    def _demo_has_settings(self) -> "ClipParams":
        if self.pretrained == "demo" and self.training is None:
            raise ValueError("pretrained: demo needs clip.training")
        return self


class CodebookParams(Section):
    """The concepts of the semantic quantiser and of the label maps."""

    concepts: str = Field(description="text file, one concept per line, or dataset: its category names")
    templates: Literal["imagenet", "simple", "scene"] = Field(
        description="prompts whose embeddings are averaged: the 85 of MaskCLIP, one, or the demo's own few"
    )


class LabelsParams(Section):
    """MaskCLIP label maps (arXiv 2112.01071)."""

    attention: Literal["value", "csa", "qk_kk", "plain"] = Field(
        "value",
        description="last block: MaskCLIP's value path, SCLIP's correlative self-attention, plain attention "
        "plus keys with keys (the best where the image embedding is the mean of the patches), or plain",
    )
    prompt_denoising: Fraction = Field(
        0.0, description="drop concepts whose best patch confidence is below this; 0: off; the paper has 0.5"
    )
    key_smoothing: bool = Field(False, description="average the scores of patches with similar keys")


class VocabParams(Section):
    """The word list."""

    min_count: Count = Field(description="how often a word must occur in the captions that count")
    count_in: Literal["train", "train_val"] = Field(
        "train",
        description="which captions count; train_val: those for validation too, as in RSTNet and FSGR",
    )
    file: str | None = Field(
        None,
        description="JSON list of words to use instead, every id kept, or cocotalk.json or WORDMAP_*.json of "
        "other toolkits; DVC watches data/word_lists only",
    )


class DecodeParams(Section):
    """Beam search of the captions that are scored."""

    beam_size: Count = Field(description="hypotheses kept")
    max_length: Annotated[int, Field(ge=1, le=500)] = Field(
        description="longest caption in positions, including the end token"
    )
    batch_size: Count = Field(50, description="images per step")
    precision: Precision = Field("auto", description=PRECISION)


def _off(value: object) -> object:
    """Programs with YAML 1.1 read a bare `off` as false, and write it as false."""
    return "off" if value is False else value


class EvaluateParams(Section):
    """Scores and pictures."""

    meteor: Annotated[Literal["auto", "off"], BeforeValidator(_off)] = Field(
        "auto", description="auto: METEOR if a Java runtime is found, else it is recorded as left out"
    )
    tokenizer: Literal["python", "java"] = Field(
        "python",
        description="tokenizer of the COCO metrics: our PTB tokenizer, or the official one, which needs Java",
    )
    spice: bool = Field(
        False, description="SPICE as well; needs Java 8 to 15 and a download of 384 MB: docs/howto/scores.md"
    )
    sheet_images: Count = Field(12, description="test images on the sample sheet")


class RuntimeParams(Section):
    """How the work is done; no stage depends on it, since it must not change any result."""

    workers: Annotated[int, Field(ge=0)] = Field(
        2, description="processes that decode images; 0: the main process decodes"
    )
    image_batch: Count = Field(64, description="images per step of feature extraction")
    cache: Literal["auto", "gpu", "ram", "disk"] = Field(
        "auto",
        description="where features are kept for training; auto: the fastest of the three that they fit into",
    )
    save_minutes: Annotated[float, Field(gt=0)] = Field(
        5.0, description="minutes between two resume points within an epoch"
    )


class Params(Section):
    """All of params.yaml."""

    lr: Rate = Field(description="peak learning rate of XE training")
    seed: Annotated[int, Field(ge=0)] = Field(
        description="seed of the captioner: its initial weights, the order of images, and all random draws"
    )
    dataset: DatasetParams
    clip: ClipParams
    codebook: CodebookParams
    labels: LabelsParams
    vocab: VocabParams
    model: ModelParams
    xe: XeParams
    scst: ScstParams
    decode: DecodeParams
    evaluate: EvaluateParams
    runtime: RuntimeParams = RuntimeParams()

    @model_validator(mode="after")
    def _alignment_has_concepts(self) -> "Params":
        if self.xe.alignment and not self.model.semantics:
            raise ValueError(
                "xe.alignment compares regions of one concept with phrases, and "
                "model.semantics: false has no concepts; set one of them otherwise"
            )
        return self


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check the parameter file.

    Raises:
        UserError: the file is missing, is not YAML, or a parameter is unknown, ill-typed or out of range;
            the message lists every wrong parameter with its value.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; run this from the project's root")
    values = load_yaml(path)
    if moved := _moved(values):
        raise UserError(f"{path} is of an older version of this project: {'; '.join(moved)}")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: " + "; ".join(_one_line(problem) for problem in error.errors())) from None


def _moved(values: Any) -> list[str]:
    """The parameters of a file that have another place or form today."""
    found = []
    for section, names, today in MOVED:
        inner = values.get(section) if isinstance(values, dict) else None
        old = [
            name for name, value in names.items() if isinstance(inner, dict) and value(inner.get(name, ...))
        ]
        if old:
            found.append(f"{', '.join(f'{section}.{name}' for name in old)}: write {today}")
    return found


def _one_line(problem: object) -> str:
    """`xe.epochs: Input should be greater than or equal to 1 (found 0)`"""
    assert isinstance(problem, dict)
    name = ".".join(str(part) for part in problem["loc"] if part not in UNION_MEMBERS) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"{name}: unknown parameter (found {problem['input']!r}); check its spelling"
    if problem["type"] == "missing":
        return f"{name}: missing; add it"
    if problem["type"] in ("union_tag_not_found", "union_tag_invalid"):
        kinds = problem["ctx"].get("expected_tags", KINDS)
        return f"{name}: needs a `kind`, one of {kinds}; write {WHOLE_MEMORY}"
    found = problem["input"]
    shown = "" if isinstance(found, dict | BaseModel) else f" (found {found!r})"
    return f"{name}: {problem['msg']}{shown}"
