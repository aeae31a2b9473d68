"""The sections `optimiser`, `xe` and `scst` of params.yaml: how the captioner is trained."""

from math import ceil
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fsgr_model.config.section import Count, Rate, Section

Weight = Annotated[float, Field(ge=0)]
Baseline = Literal["others", "greedy", "mean"]


class OptimiserParams(Section):
    """What turns a gradient into a step."""

    name: Literal["adam", "muon"] = Field(
        description="muon: matrices of the layers by Muon, half of the steps when training from scratch"
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(description="decoupled weight decay; 0: plain Adam")
    grad_clip_norm: Annotated[float, Field(gt=0)] = Field(description="largest norm of the gradient")
    visual_lr_factor: Annotated[float, Field(gt=0, le=1)] = Field(
        description="what `model.tail` trains learns at this share of the rate of everything else"
    )


class DecayStep(Section):
    """From `epoch` (counted from 1) on, the rate is `factor` times the peak."""

    epoch: Count
    factor: Annotated[float, Field(gt=0, le=1)]


class ScheduleParams(Section):
    """How the rate rises to its peak and falls from it, by epochs."""

    warmup_epochs: Annotated[int, Field(ge=0)] = Field(
        description="epochs of warm-up: the rate rises to its peak in equal steps"
    )
    decay: list[DecayStep] = Field(description="steps by which the rate decays")


class PhaseParams(Section):
    """The parameters that XE and SCST share: one loop runs both."""

    epochs: Count = Field(description="at most this many passes over the training images")
    batch_size: Count = Field(description="images per step, each with all of its captions")
    schedule: ScheduleParams | None = Field(
        None, description="warm-up and decay of the rate; null: the rate stays at its peak"
    )
    patience: Count = Field(description="stop after this many epochs without a better validation CIDEr-D")
    max_length: Annotated[int, Field(ge=2, le=500)] = Field(
        description="longest caption, given or sampled, in positions including the end token; the rest is cut"
    )

    def steps_per_epoch(self, images: int) -> int:
        """Steps per epoch with `images` training images."""
        return ceil(images / self.batch_size)


class ContrastParams(Section):
    """Patches with the same label are drawn together, all others apart (FSGR)."""

    weight: Annotated[float, Field(gt=0)] = Field(
        description="weight of this loss in the sum; FSGR's copy has 0.25"
    )
    anchors: Count = Field(
        description="patches of a batch that are compared with all others: at most this many per step"
    )


class AlignmentParams(Section):
    """Contrast of images, regions and patches with whole captions, their phrases and their words."""

    weight: Annotated[float, Field(gt=0)] = Field(description="weight that each level reaches at its peak")


class XeParams(PhaseParams):
    """Cross-entropy training; its peak rate is the top-level `lr`."""

    shuffle_features: bool = Field(
        False, description="baseline that should score low: every image gets another image's features"
    )
    contrast: ContrastParams | None = Field(
        None, description="supervised contrast of patches by their labels (FSGR); null: none"
    )
    alignment: AlignmentParams | None = Field(
        None,
        description="progressive contrast of images, regions and patches with captions' parts; null: none",
    )


class RewardParams(Section):
    """What a sampled caption is rewarded for: a sum with weights. What is left out has the weight 0."""

    cider_d: Weight = Field(1.0, description="CIDEr-D against the image's captions, 1.0 is 100")
    bleu4: Weight = Field(0.0, description="BLEU-4 of the caption alone, 0 to 1")
    clip_score: Weight = Field(0.0, description="CLIPScore by the CLIP in use, 0 to 2.5; needs no captions")
    ref_clip_score: Weight = Field(0.0, description="RefCLIPScore by the CLIP in use")
    chair: Weight = Field(
        0.0, description="subtracted: share of the named objects that the image has not; needs instances"
    )
    repetition: Weight = Field(
        0.0, description="subtracted: share of the n-grams of 2 to 4 words that the caption has had before"
    )
    bad_endings: Weight = Field(
        0.0, description="subtracted: 1 for a caption that ends with an article, preposition or conjunction"
    )

    @model_validator(mode="after")
    def _something_is_gained(self) -> "RewardParams":
        if not (self.cider_d or self.bleu4 or self.clip_score or self.ref_clip_score):
            raise ValueError(
                "with penalties alone the best caption says nothing; give cider_d, bleu4, clip_score or "
                "ref_clip_score a weight"
            )
        return self


class ScstParams(PhaseParams):
    """Self-critical sequence training (arXiv 1612.00563)."""

    lr: Rate = Field(description="peak learning rate")
    samples: Annotated[int, Field(ge=2)] = Field(description="captions sampled per image")
    reward: RewardParams | None = Field(
        None, description="rewards and penalties with their weights; null: CIDEr-D alone"
    )
    baseline: Baseline = Field(
        "others",
        description="subtracted from the reward of a sample: the mean of the image's others, the reward of "
        "its greedy caption, or the mean of all of its samples",
    )
    optimiser: OptimiserParams | None = Field(
        None, description="an optimiser of its own; null: the one that XE has, at the top"
    )
    end_token: bool = Field(
        True, description="count the end token in CIDEr-D and BLEU-4; without it captions end in 'with a'"
    )
