"""Every parameter of params.yaml: its type, its bounds, and one sentence that says what it does.

Unknown names, wrong types and values out of range are refused in one line before anything runs.
YAML reads 5e-06 as text; pydantic turns such text back into a number.
"""

from math import ceil
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from fsgr_model.config.dataset_params import DatasetParams
from fsgr_model.config.section import Count, Fraction, Rate, Section
from fsgr_model.runtime.artifacts import load_yaml
from fsgr_model.runtime.errors import UserError

ResidualKind = Literal["post", "double", "pre"]
# What pydantic adds to the name of a parameter that may be of either of these types.
UNION_MEMBERS = ("str", "PerSplit")
MemoryKind = Literal["none", "prototypes", "learned"]


class ClipTrainingParams(Section):
    """Contrastive training of a small CLIP from scratch (`clip.pretrained: demo`)."""

    epochs: Count = Field(description="passes over the training split, one caption an image a pass")
    batch_size: Annotated[int, Field(ge=8)] = Field(description="image-caption pairs a step")
    lr: Rate = Field(description="peak learning rate of AdamW, cosine decay after the warm-up")
    weight_decay: Annotated[float, Field(ge=0)] = Field(description="weight decay of AdamW on matrices")
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(description="epochs of linear warm-up")
    shift: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="pictures are moved by up to this share of their side, anew in every epoch"
    )
    gray_scale_prob: Fraction = Field(
        0.0, description="chance that a picture loses its colours for a step, so that shapes are learned too"
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
    training: ClipTrainingParams | None = Field(None, description="settings of pretrained: demo")

    @model_validator(mode="after")
    def _demo_has_settings(self) -> "ClipParams":
        if self.pretrained == "demo" and self.training is None:
            raise ValueError("pretrained: demo needs clip.training")
        return self


class CodebookParams(Section):
    """The concepts of the semantic quantiser and of the label maps."""

    concepts: str = Field(description="text file, one concept a line, or dataset: its category names")
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
        0.0, description="drop concepts whose best patch confidence is below this; 0 is off, the paper's 0.5"
    )
    key_smoothing: bool = Field(False, description="average the scores of patches with similar keys")


class VocabParams(Section):
    """The word list."""

    min_count: Count = Field(description="the captions that count must hold a word this often")
    count_in: Literal["train", "train_val"] = Field(
        "train",
        description="which captions count; train_val: those for validation too, as RSTNet and FSGR have it",
    )
    file: str | None = Field(
        None,
        description="JSON list of words to use instead, every id kept, or cocotalk.json or WORDMAP_*.json of "
        "other toolkits; DVC watches data/word_lists only",
    )


class ModelParams(Section):
    """The captioning network."""

    d_model: Count = Field(description="width of encoder and decoder")
    num_heads: Count = Field(description="attention heads")
    d_ff: Count = Field(description="hidden width of the feed-forward layers")
    encoder_layers: Count = Field(description="cross-modal encoder layers")
    decoder_layers: Count = Field(description="decoder layers")
    dropout: Fraction = Field(description="dropout everywhere in encoder and decoder")
    top_k: Count = Field(description="concepts that the quantiser keeps for an image")
    patch_attention: bool = Field(
        False, description="encoder layers let patches attend to each other before they ask the text grids"
    )
    inverse_frequency: bool = Field(
        False, description="divide a concept by its patch count + 1, as the reference copy does"
    )
    align: Literal["plain", "csa", "qk_kk", "value"] = Field(
        "csa", description="last tail block of the aligned features, as labels.attention has it"
    )
    adapters: bool = Field(
        False, description="train an adapter in each block of CLIP's tail (AIM, arXiv 2302.03024)"
    )
    prompts: Annotated[int, Field(ge=0)] = Field(
        0, description="trained tokens in each block of CLIP's tail (VPT, arXiv 2203.12119); 0 is none"
    )
    prompt_start: Literal["random", "patches"] = Field(
        "random", description="prompts begin at random (VPT) or among the patches (SPT, arXiv 2402.02382)"
    )
    semantics: bool = Field(
        True,
        description="false: no codebook and no quantiser, the layers of the encoder let patches attend to "
        "each other only; the baseline that lacks just the idea",
    )
    residual: ResidualKind = Field(
        "post", description="norm after the sum, the reference copy's sum and norm twice, or norm before"
    )
    memory: MemoryKind = Field(
        "none",
        description="what the decoder's self-attention sees besides the words: PMA-Net's prototypes "
        "(arXiv 2308.12383), or slots that are trained (M2, arXiv 1912.08226)",
    )
    memory_size: Count = Field(64, description="prototypes or slots a layer")
    memory_window: Count = Field(
        250, description="prototypes: XE steps whose keys and values are kept; the first come after so many"
    )
    memory_refresh: Count = Field(125, description="prototypes: XE steps from one K-means to the next")
    memory_neighbours: Count = Field(16, description="prototypes: keys around a centroid that give its value")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ModelParams":
        if self.d_model % self.num_heads or self.d_model % 4:
            raise ValueError(
                f"d_model {self.d_model} must be a multiple of 4 and of num_heads {self.num_heads}"
            )
        return self


class DecayStep(Section):
    """From `epoch` (counted from 1) on, the rate is `factor` times the peak."""

    epoch: Count
    factor: Annotated[float, Field(gt=0, le=1)]


class PhaseParams(Section):
    """What XE and SCST share: one loop runs both."""

    epochs: Count = Field(description="at most this many passes over the training images")
    train_images: Count | None = Field(
        None,
        description="train the captioner on so many of the training images, drawn by `seed`; null: on all. "
        "CLIP and the word list know the others too, as a real CLIP has seen far more than COCO",
    )
    batch_size: Count = Field(description="images a step, each with all of its captions")
    optimiser: Literal["adam", "muon"] = Field(
        "adam",
        description="muon: matrices of the layers by Muon, half of the steps when training from scratch",
    )
    warmup_epochs: Annotated[int, Field(ge=0)] = Field(
        0, description="epochs below the peak rate, rising in equal steps"
    )
    decay: list[DecayStep] = Field([], description="steps down of the rate")
    visual_lr_factor: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="adapters and prompts learn at this share of the rate of everything else"
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0, description="decoupled weight decay; 0 is plain Adam"
    )
    grad_clip_norm: Annotated[float, Field(gt=0)] = Field(description="largest norm of the gradient")
    patience: Count = Field(description="stop after this many epochs without a better validation CIDEr-D")
    max_length: Annotated[int, Field(ge=2, le=500)] = Field(
        description="longest caption, given or sampled: positions, the end token among them; the rest is cut"
    )

    def steps_an_epoch(self, images: int) -> int:
        """Of a training split of so many images."""
        return ceil((self.train_images or images) / self.batch_size)


class XeParams(PhaseParams):
    """Cross-entropy training; its peak rate is the top-level `lr`."""

    shuffle_features: bool = Field(
        False, description="baseline that should lose: every image gets another image's features"
    )
    contrast_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="weight of the supervised contrast of patches by their labels; 0 is off, FSGR's 0.25"
    )
    contrast_anchors: Count = Field(
        4096, description="patches of a batch that are compared with all others: at most this many a step"
    )
    alignment: Literal["none", "progressive"] = Field(
        "none", description="progressive: contrast of images, regions and patches with captions' parts"
    )
    alignment_weight: Annotated[float, Field(gt=0)] = Field(
        0.1, description="weight that each level of the alignment reaches at its peak"
    )


class ScstParams(PhaseParams):
    """Self-critical sequence training (arXiv 1612.00563)."""

    lr: Rate = Field(description="peak learning rate")
    samples: Annotated[int, Field(ge=2)] = Field(
        description="captions sampled an image; the others are each one's baseline"
    )
    end_token: bool = Field(
        True, description="count the end token in the reward; without it captions end in 'with a'"
    )


class DecodeParams(Section):
    """Beam search of the captions that are scored."""

    beam_size: Count = Field(description="hypotheses kept")
    max_length: Annotated[int, Field(ge=1, le=500)] = Field(
        description="longest caption: positions, the end token among them"
    )
    batch_size: Count = Field(50, description="images a step")


def _off(value: object) -> object:
    """YAML reads a bare `off` as false, and DVC writes it so: `dvc exp run -S evaluate.meteor=off`."""
    return "off" if value is False else value


class EvaluateParams(Section):
    """Scores and pictures."""

    meteor: Annotated[Literal["auto", "off"], BeforeValidator(_off)] = Field(
        "auto", description="auto: METEOR where a Java runtime is found, else recorded as left out"
    )
    tokenizer: Literal["python", "java"] = Field(
        "python",
        description="of the COCO metrics: our PTB tokenizer, or the official one, which needs Java",
    )
    spice: bool = Field(
        False, description="SPICE as well; needs Java 8 to 15 and a download of 384 MB: docs/howto/scores.md"
    )
    sheet_images: Count = Field(12, description="test images on the sample sheet")


class RuntimeParams(Section):
    """How the work is done; no stage depends on it, since no result may."""

    workers: Annotated[int, Field(ge=0)] = Field(
        2, description="processes that decode images; 0 decodes in the main one"
    )
    image_batch: Count = Field(64, description="images a step of feature extraction")
    cache: Literal["auto", "gpu", "ram", "disk"] = Field(
        "auto", description="where features wait for training; auto: the fastest of the three that they fit"
    )
    save_minutes: Annotated[float, Field(gt=0)] = Field(
        5.0, description="minutes between two resume points within an epoch"
    )


class Params(Section):
    """All of params.yaml."""

    lr: Rate = Field(description="peak learning rate of XE training")
    seed: Annotated[int, Field(ge=0)] = Field(
        description="of the captioner: its first weights, the order of images, what is drawn and sampled"
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
        if self.xe.alignment != "none" and not self.model.semantics:
            raise ValueError(
                "xe.alignment: progressive compares regions of one concept with phrases, and "
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
    try:
        return Params.model_validate(load_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path}: " + "; ".join(_one_line(problem) for problem in error.errors())) from None


def _one_line(problem: object) -> str:
    """`xe.epochs: Input should be greater than or equal to 1 (found 0)`"""
    assert isinstance(problem, dict)
    name = ".".join(str(part) for part in problem["loc"] if part not in UNION_MEMBERS) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"{name}: unknown parameter (found {problem['input']!r}); check its spelling"
    if problem["type"] == "missing":
        return f"{name}: missing; add it"
    found = problem["input"]
    shown = "" if isinstance(found, dict | BaseModel) else f" (found {found!r})"
    return f"{name}: {problem['msg']}{shown}"
