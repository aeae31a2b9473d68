"""Trunk and tail of any CLIP that the pipeline can use: a vision transformer or a ResNet."""

from torch import nn

from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.resnet import ResNetTail, ResNetTrunk
from fsgr_model.clip.split import Align, Tail, Trunk

AnyTrunk = Trunk | ResNetTrunk
AnyTail = Tail | ResNetTail


def make_trunk(clip_model: nn.Module, cut: int) -> AnyTrunk:
    """What is cached: the blocks below `cut`, or a ResNet without its attention pool.

    Raises:
        UserError: the model has another kind of vision tower, or cannot be cut there.
    """
    return ResNetTrunk(clip_model, cut) if _is_resnet(clip_model) else Trunk(clip_model, cut)


def make_tail(clip_model: nn.Module, cut: int, align: Align) -> AnyTail:
    """What runs from the cache.

    Raises:
        UserError: as `make_trunk`.
    """
    return ResNetTail(clip_model, cut, align) if _is_resnet(clip_model) else Tail(clip_model, cut, align)


def _is_resnet(clip_model: nn.Module) -> bool:
    return isinstance(clip_model.visual, open_clip.modified_resnet.ModifiedResNet)
