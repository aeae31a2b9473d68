"""Trunk and tail of any CLIP that the pipeline can use, by the kind of its vision tower."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from fsgr_model.clip.resnet import ResNetTail, ResNetTrunk, see_by_resnet
from fsgr_model.clip.split import VITS, Align, Tail, Trunk, see_by_blocks, tower_name
from fsgr_model.clip.stages import FORMS, StagedTail, StagedTrunk, see_by_stages
from fsgr_model.runtime.device import at_least_float32
from fsgr_model.runtime.errors import UserError

AnyTrunk = Trunk | ResNetTrunk | StagedTrunk
AnyTail = Tail | ResNetTail | StagedTail


class Kind(NamedTuple):
    """How towers of a kind are split, and seen through whole; `first_cut` is the lowest that all have."""

    trunk: Callable[[Any, int], AnyTrunk]
    tail: Callable[[Any, int, Align], AnyTail]
    see: Callable[[Any, Tensor], tuple[Tensor, Tensor]]
    first_cut: int


TRANSFORMER = Kind(Trunk, Tail, see_by_blocks, first_cut=0)
RESNET = Kind(ResNetTrunk, ResNetTail, see_by_resnet, first_cut=0)
STAGED = Kind(StagedTrunk, StagedTail, see_by_stages, first_cut=1)
KINDS = {
    **dict.fromkeys(VITS, TRANSFORMER),
    "open_clip.ModifiedResNet": RESNET,
    **dict.fromkeys(FORMS, STAGED),
}


def make_trunk(clip_model: nn.Module, cut: int) -> AnyTrunk:
    """What is cached: the blocks or stages below `cut`, or a ResNet without its attention pool.

    Raises:
        UserError: the model has another kind of vision tower, or cannot be cut there.
    """
    return kind_of(clip_model).trunk(clip_model, cut)


def make_tail(clip_model: nn.Module, cut: int, align: Align) -> AnyTail:
    """What runs from the cache.

    Raises:
        UserError: as `make_trunk`; or the tower has no attention, which `align` asks for.
    """
    return kind_of(clip_model).tail(clip_model, cut, align)


def image_and_patches(clip_model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """`encode_image`'s embedding [B, E], and the patches in the same space [B, G, E]; float32, unit rows.

    It is for training: with gradients, and in the mode that the model is in.

    Raises:
        UserError: as `make_trunk`.
    """
    image_BE, patch_BGE = kind_of(clip_model).see(clip_model, images)
    image_BE, patch_BGE = at_least_float32(image_BE), at_least_float32(patch_BGE)
    return F.normalize(image_BE, dim=-1), F.normalize(patch_BGE, dim=-1)


def check_tower(clip_model: nn.Module) -> None:
    """Refuse a CLIP whose vision tower cannot be cut anywhere.

    Raises:
        UserError: it cannot.
    """
    make_trunk(clip_model, kind_of(clip_model).first_cut)


def kind_of(clip_model: nn.Module) -> Kind:
    """The kind of the model's vision tower.

    Raises:
        UserError: it is of none that is known.
    """
    name = tower_name(clip_model)
    if name not in KINDS:
        raise UserError(
            f"clip.model has the vision tower {name}, which cannot be cut; choose an architecture of "
            "docs/reference/towers.md"
        )
    return KINDS[name]
