"""Every parameter of params.yaml: its type, its bounds, and one sentence that says what it does.

Unknown names, wrong types and values out of range are refused in one line before anything runs.
The file is read as DVC reads it; numbers that a program wrote as text become numbers again.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from fsgr_model.config.dataset_params import KIND_OF_FORMAT, DatasetParams, DemoDataset, foreign_names
from fsgr_model.config.decode_params import DecodeParams
from fsgr_model.config.model_params import ModelParams
from fsgr_model.config.moved import WHOLE_MEMORY, moved
from fsgr_model.config.on_track_params import OnTrackParams
from fsgr_model.config.section import Count, Fraction, Rate, Section, Seed
from fsgr_model.config.text_params import TextParams
from fsgr_model.config.training_params import OptimiserParams, ScstParams, XeParams
from fsgr_model.runtime.artifacts import load_yaml
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.precision import Precision
from fsgr_model.runtime.run_reports import Tool

# What pydantic adds to the name of a parameter that may have one of several types.
UNION_MEMBERS = ("str", "PerSplit", "prototypes", "learned", "literal['auto']", "constrained-int", "int")
KINDS = "'prototypes', 'learned'"
# A folder in data/members, which DVC watches, and none outside it.
MemberName = Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]


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
    crop_area: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="a random part of each picture, at least this share of its area, is drawn out to the "
        "whole size in every step; 1: pictures are whole",
    )
    mirror_prob: Fraction = Field(0.0, description="probability that a picture is mirrored in a step")
    colour_jitter: Fraction = Field(
        0.0, description="contrast, saturation and brightness change by up to this share in every step"
    )
    gray_scale_prob: Fraction = Field(
        0.0,
        description="probability that a picture loses its colours in a step, so that shapes are learned too",
    )
    seed: Seed = Field(42, description="seed of this training")


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
    cache_dtype: Literal["float16", "int8"] = Field(
        "float16",
        description="how tokens are cached; int8, with a scale per token, takes half the space of float16",
    )
    resize_mode: Literal["squash", "shortest"] = Field(
        "squash",
        description="squash keeps the whole image, as FSGR does; shortest crops its centre, as CLIP does",
    )
    preprocess_as: str | None = Field(
        None,
        description="open_clip tag whose mean, deviation and interpolation a weight file wants (openai, or "
        "of another architecture: ViT-B-16/openai); null: those that all tags of the architecture have",
    )
    training: ClipTrainingParams | None = Field(None, description="settings for pretrained: demo")

    @model_validator(mode="after")
    def _demo_has_settings(self) -> "ClipParams":
        if self.pretrained == "demo" and self.training is None:
            raise ValueError("pretrained: demo needs clip.training")
        if self.pretrained == "demo" and self.preprocess_as is not None:
            raise ValueError("preprocess_as is for weights of a file; set it to null")
        return self


class CodebookParams(Section):
    """The concepts of the semantic quantiser and of the label maps."""

    concepts: str = Field(description="text file, one concept per line, or dataset: its category names")
    templates: Literal["imagenet", "simple", "scene", "chinese"] = Field(
        description="prompts whose embeddings are averaged: the 85 of MaskCLIP, one, the demo's own few, or "
        "Chinese ones"
    )


class RefineParams(Section):
    """MaskCLIP's refinement of the label maps (arXiv 2112.01071, section 3.4)."""

    prompt_denoising: Fraction = Field(
        description="drop concepts whose best patch confidence is below this; 0: off; the paper has 0.5"
    )
    key_smoothing: bool = Field(description="average the scores of patches with similar keys")


class LabelsParams(Section):
    """MaskCLIP label maps (arXiv 2112.01071)."""

    attention: Literal["value", "csa", "qk_kk", "plain"] = Field(
        "value",
        description="last block: MaskCLIP's value path, SCLIP's correlative self-attention, plain attention "
        "plus keys with keys (the best where the image embedding is the mean of the patches), or plain",
    )
    refine: RefineParams | None = Field(
        None, description="MaskCLIP's refinement of the scores; null: none, as MaskCLIP's default"
    )


class VocabParams(Section):
    """The word list."""

    words: Annotated[str, Field(min_length=1)] = Field(
        description="train: those of the training captions; train_val: of the validation captions too, as in "
        "RSTNet and FSGR; or a file: JSON list of words, every id kept, or cocotalk.json or WORDMAP_*.json "
        "of other toolkits; DVC watches data/word_lists only"
    )
    min_count: Count = Field(description="how often a word must occur in them; a file is kept whole")

    @property
    def file(self) -> str | None:
        """The file of the words, if they do not come from captions."""
        return None if self.words in ("train", "train_val") else self.words


class EvaluateParams(Section):
    """Scores and pictures."""

    java: list[Literal["meteor", "spice", "tokenizer"]] = Field(
        description="what Java computes. meteor: METEOR, recorded as left out where there is no Java; spice: "
        "SPICE, which needs Java 8 to 15 and a download of 384 MB (docs/howto/scores.md); tokenizer: the "
        "official tokenizer of the COCO metrics in place of our PTB tokenizer"
    )
    sheet_images: Count = Field(description="test images on the sample sheet")

    @property
    def meteor(self) -> Literal["auto", "off"]:
        """Whether METEOR is computed where there is a Java runtime."""
        return "auto" if "meteor" in self.java else "off"

    @property
    def spice(self) -> bool:
        return "spice" in self.java

    def tokenizer(self, text: TextParams) -> Literal["python", "java", "characters", "jieba", "words"]:
        """What divides captions for the COCO metrics."""
        if text.tokenizer != "ptb":
            return text.tokenizer
        return "java" if "tokenizer" in self.java else "python"


class RuntimeParams(Section):
    """How the work is done; no stage depends on it, since it must not change any result.

    It may be left out, wholly or in part.
    """

    processes: Literal["auto"] | Annotated[int, Field(ge=1, strict=True)] = Field(
        "auto",
        description="processes that share the work of training, features, labels and captions; auto: one per "
        "GPU of this machine, 1 on a CPU. Where torchrun started the stage, its number counts",
    )
    launcher: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="a command in front of `-m pipeline.STAGE` that starts the processes in place of "
        "`processes`, such as `srun torchrun --nnodes 2 ...`; a shell reads it, so it may have variables",
    )
    micro_batch: Literal["auto"] | Annotated[int, Field(ge=1, strict=True)] = Field(
        "auto",
        description="images of a batch of XE or SCST that a process works on at once; auto: its whole share, "
        "or, where they do not fit in the memory of a GPU, as many as do",
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        2, description="processes that decode images; 0: the main process decodes"
    )
    image_batch: Count = Field(64, description="images per step of feature extraction")
    caption_batch: Count = Field(50, description="images per step of beam search")
    cache: Literal["auto", "gpu", "ram", "disk"] = Field(
        "auto",
        description="where features are kept for training; auto: the fastest of the three that they fit into",
    )
    save_minutes: Annotated[float, Field(gt=0)] = Field(
        5.0, description="minutes between two resume points within an epoch"
    )
    report_to: list[Tool] = Field(
        [],
        description="tools that are told the numbers of XE and SCST while they train, each an extra: "
        "docs/howto/watch.md",
    )


class Params(Section):
    """All of params.yaml."""

    lr: Rate = Field(description="peak learning rate of XE training")
    seed: Seed = Field(
        description="seed of the captioner: its initial weights, the order of images, and all random draws"
    )
    precision: Precision = Field(
        description="number format of the products in training and beam search: auto is bf16 on a GPU and "
        "float32 elsewhere; fp16 scales the loss"
    )
    train_images: Count | None = Field(
        description="train the captioner on this many training images, drawn with `seed`; null: on all. "
        "CLIP and the word list know the others too, as a real CLIP has seen far more than COCO",
    )
    dataset: DatasetParams = Field(
        description="where images and captions come from; each format has parameters of its own"
    )
    text: TextParams
    clip: ClipParams
    codebook: CodebookParams
    labels: LabelsParams
    vocab: VocabParams
    model: ModelParams
    optimiser: OptimiserParams
    xe: XeParams
    scst: ScstParams
    decode: DecodeParams
    ensemble: list[MemberName] = Field(
        [],
        description="networks that choose words together with the one after SCST, by the mean of their "
        "probabilities: names of folders in data/members that fsgr export wrote",
    )
    evaluate: EvaluateParams
    on_track: OnTrackParams = OnTrackParams()
    runtime: RuntimeParams = RuntimeParams()

    @model_validator(mode="after")
    def _alignment_has_concepts(self) -> "Params":
        if self.xe.alignment and not self.model.semantics:
            raise ValueError(
                "xe.alignment compares regions of one concept with phrases, and "
                "model.semantics: false has no concepts; change one of the two"
            )
        return self

    @model_validator(mode="after")
    def _english_is_divided_as_english(self) -> "Params":
        tokenizer = self.text.tokenizer
        if tokenizer != "ptb" and "tokenizer" in self.evaluate.java:
            raise ValueError(
                f"evaluate.java: tokenizer is the official program of text.tokenizer: ptb, which is "
                f"{tokenizer} here; take one of the two out"
            )
        if (
            tokenizer == "ptb"
            and isinstance(self.dataset, DemoDataset)
            and self.dataset.demo.language == "zh"
        ):
            raise ValueError(
                "dataset.demo.language: zh has no spaces between words, and text.tokenizer: ptb would make a "
                "caption one word; set text.tokenizer: jieba, characters or words"
            )
        if tokenizer in ("characters", "jieba") and self.xe.alignment:
            raise ValueError(
                "xe.alignment finds phrases by English function words, and text.tokenizer: "
                f"{tokenizer} is for other languages; set xe.alignment: null"
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
    if found := moved(values):
        raise UserError(f"{path} is of an older version of this project: {'; '.join(found)}")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_one_line(problem, values) for problem in error.errors())
        raise UserError(f"{path}: {problems}") from None


def _one_line(problem: Any, values: Any) -> str:
    """`xe.epochs: Input should be greater than or equal to 1 (found 0)`"""
    name, found = _name(problem["loc"]) or "the file", problem["input"]
    match problem["type"]:
        case "extra_forbidden":
            if name in [f"dataset.{foreign}" for foreign in foreign_names(values.get("dataset"))]:
                return f"{name}: format {values['dataset']['format']} has no such parameter; leave it out"
            return f"{name}: unknown parameter (found {found!r}); check its spelling"
        case "missing":
            return f"{name}: missing; add it"
        case "union_tag_not_found" if name == "dataset":
            return "dataset.format: missing; add it"
        case "union_tag_invalid" if name == "dataset":
            tag = found["format"]
            return f"dataset.format: Input should be {problem['ctx']['expected_tags']} (found {tag!r})"
        case "union_tag_not_found" | "union_tag_invalid":
            kinds = problem["ctx"].get("expected_tags", KINDS)
            return f"{name}: needs a `kind`, one of {kinds}; write {WHOLE_MEMORY}"
    shown = "" if isinstance(found, dict | BaseModel) else f" (found {found!r})"
    return f"{name}: {problem['msg']}{shown}"


def _name(location: tuple[str | int, ...]) -> str:
    """The dotted name of a parameter, without the types that pydantic names in it."""
    if location[:1] == ("dataset",) and location[1:2] and location[1] in KIND_OF_FORMAT:
        location = ("dataset", *location[2:])
    return ".".join(str(part) for part in location if part not in UNION_MEMBERS)
