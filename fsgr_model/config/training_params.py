"""The sections `optimiser`, `xe` and `scst` of params.yaml: how the captioner is trained."""

from math import ceil
from typing import Annotated, Literal

from pydantic import Field

from fsgr_model.config.section import Count, Rate, Section


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


class ScstParams(PhaseParams):
    """Self-critical sequence training (arXiv 1612.00563)."""

    lr: Rate = Field(description="peak learning rate")
    samples: Annotated[int, Field(ge=2)] = Field(
        description="captions sampled per image; the baseline of each is the mean of the others"
    )
    optimiser: OptimiserParams | None = Field(
        None, description="an optimiser of its own; null: the one that XE has, at the top"
    )
    end_token: bool = Field(
        True, description="count the end token in the reward; without it captions end in 'with a'"
    )
