"""Towers in stages, of timm: ConvNeXt, FastViT (MobileCLIP) and Swin. The cut lies between two stages.

The cache holds the map after the last stage below the cut as tokens, without any leading one. Blocks of these
towers have no attention that sees the whole image, so nothing can be trained inside them.

Shapes: B images, T positions of the cached map, V its width, G positions of the last map, W its width,
E joint width.
"""

from typing import Any, NamedTuple

from torch import Tensor, nn

from fsgr_model.clip.logit_scale import logit_scale_of
from fsgr_model.clip.split import Align, FrozenTail, TailOutput, tower_name
from fsgr_model.clip.vit import joint_width_of
from fsgr_model.runtime.errors import UserError


class Form(NamedTuple):
    """What timm calls the parts of a tower, and whether its maps have their channels last."""

    stem: str
    stages: str
    last: str
    channels_last: bool


FORMS = {
    "timm.ConvNeXt": Form("stem", "stages", "norm_pre", False),
    "timm.FastVit": Form("stem", "stages", "final_conv", False),
    "timm.SwinTransformer": Form("patch_embed", "layers", "norm", True),
}


class StagedTrunk(nn.Module):
    """Stages below `cut`: float32 images [B, 3, height, width] -> the map as tokens [B, T, V]."""

    def __init__(self, clip_model: Any, cut: int) -> None:
        super().__init__()
        self.form, stages = staged_tower(clip_model, cut)
        tower = clip_model.visual.trunk
        self.stem = getattr(tower, self.form.stem)
        self.stages = stages[:cut]
        rows, columns, width = map_shape(clip_model, cut)
        self.token_shape = (rows * columns, width)

    def forward(self, images: Tensor) -> Tensor:
        return as_tokens(self.stages(self.stem(images)), self.form)


class StagedTail(FrozenTail):
    """Stages from `cut` on, and the head. The grid is the map that the head pools.

    A choice of ours, since these towers have no attention pool: a position comes into the joint space as an
    image of that one position would, through the norm and the projections behind the pool. Where these are
    linear, the embedding is the mean of the positions (class activation maps, arXiv 1512.04150).
    `align` is `plain` or `value`, which are the same.
    """

    def __init__(self, clip_model: Any, cut: int, align: Align) -> None:
        super().__init__()
        self.form, stages = staged_tower(clip_model, cut)
        if align not in ("plain", "value"):
            raise UserError(
                f"{align} is a form of attention, and {tower_name(clip_model)} has none in its last layer; "
                "set model.align and labels.attention to value"
            )
        visual = clip_model.visual
        self.logit_scale = logit_scale_of(clip_model)
        self.cached_size = map_shape(clip_model, cut)[:2]
        self.stages = stages[cut:]
        self.last = getattr(visual.trunk, self.form.last)
        self.head = nn.Sequential(visual.trunk.head, visual.head)
        self.grid_size = map_shape(clip_model, len(stages))[:2]
        self.width = visual.trunk.num_features
        self.joint_width = joint_width_of([self.head], self.width)
        self.align = align
        self.requires_grad_(False).eval()

    def forward(self, tokens_BTV: Tensor) -> TailOutput:
        """From the cache (float16 or float32) to the three outputs, in the precision of the weights."""
        last_map = self._last_map(tokens_BTV)
        grid_BGW = as_tokens(last_map, self.form)
        return TailOutput(grid_BGW, self.head(last_map), place_alone(self.head, grid_BGW, self.form))

    def aligned(self, tokens_BTV: Tensor) -> Tensor:
        """Only `align_BGE`."""
        grid_BGW = as_tokens(self._last_map(tokens_BTV), self.form)
        return place_alone(self.head, grid_BGW, self.form)

    def last_keys(self, tokens_BTV: Tensor) -> Tensor:
        """There are none.

        Raises:
            UserError: always.
        """
        raise UserError(
            "labels.key_smoothing compares the keys of the last attention, and this CLIP has none; "
            "set it to false"
        )

    def _last_map(self, tokens_BTV: Tensor) -> Tensor:
        by_place = tokens_BTV.to(self.dtype).unflatten(1, self.cached_size)
        cached = by_place if self.form.channels_last else by_place.permute(0, 3, 1, 2)
        return self.last(self.stages(cached))


def see_by_stages(clip_model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """The embedding of each image and its positions in the joint space, from all stages, with gradients."""
    visual = clip_model.visual
    form, stages = staged_tower(clip_model, cut=1)
    last_map = getattr(visual.trunk, form.last)(stages(getattr(visual.trunk, form.stem)(images)))
    head = nn.Sequential(visual.trunk.head, visual.head)
    return head(last_map), place_alone(head, as_tokens(last_map, form), form)


def place_alone(head: nn.Module, grid_BGW: Tensor, form: Form) -> Tensor:
    """Each position through the head as an image of that one position."""
    axes = (1, 2) if form.channels_last else (2, 3)
    alone = grid_BGW.flatten(0, 1)
    for axis in axes:
        alone = alone.unsqueeze(axis)
    return head(alone).unflatten(0, grid_BGW.shape[:2])


def as_tokens(of_image: Tensor, form: Form) -> Tensor:
    """A map as a row of its positions."""
    return of_image.flatten(1, 2) if form.channels_last else of_image.flatten(2).transpose(1, 2)


def staged_tower(clip_model: Any, cut: int) -> tuple[Form, nn.Sequential]:
    """The names of the tower's parts, and its stages.

    Raises:
        UserError: it cannot be cut there.
    """
    form = FORMS[tower_name(clip_model)]
    stages = getattr(clip_model.visual.trunk, form.stages)
    if not 1 <= cut <= len(stages):
        raise UserError(
            f"clip.cut {cut}: the tower {tower_name(clip_model)} is cut after one of its {len(stages)} "
            f"stages; use 1 to {len(stages)} ({len(stages)} caches all but the head and is the smallest)"
        )
    return form, stages


def map_shape(clip_model: Any, stages: int) -> tuple[int, int, int]:
    """Rows, columns and channels of the map after so many stages."""
    visual = clip_model.visual
    known = visual.trunk.feature_info[stages - 1]
    rows, columns = (side // known["reduction"] for side in visual.image_size)
    return rows, columns, known["num_chs"]
