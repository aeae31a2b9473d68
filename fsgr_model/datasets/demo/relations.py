"""Where groups are relative to each other, measured on the drawn masks."""

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from fsgr_model.datasets.demo.pictures import Mask, Picture
from fsgr_model.datasets.demo.scenes import Scene
from fsgr_model.datasets.demo.world_file import Relation

HIDDEN_SHARE = 0.05  # share of a thing's pixels; less counts as not hidden
NEAR = 0.09  # largest gap between two things that are near, as a share of the image's side


@dataclass(frozen=True)
class Box:
    """Bounds of a mask in pixels, right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int


def box_of(mask: Mask) -> Box:
    """The smallest box around a mask that is not empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def find_relations(scene: Scene, picture: Picture) -> dict[tuple[int, int], list[Relation]]:
    """Every relation that holds from one group to another, by (group, other group)."""
    found: dict[tuple[int, int], list[Relation]] = {}
    whole = [_union(scene, picture.whole, index) for index in range(len(scene.groups))]
    boxes = [box_of(mask) for mask in whole]
    stands = {thing.group: thing.stands for thing in scene.things}
    for one, other in permutations(range(len(boxes)), 2):
        relations = _beside(boxes[one], boxes[other], picture.background.shape[0])
        # Of two things on the ground, the one higher up in the picture is farther away, not above.
        if stands[one] and stands[other]:
            relations = [relation for relation in relations if relation not in ("above", "under")]
        if _hides(scene, picture, one, other):
            relations.append("in front of")
        if _hides(scene, picture, other, one):
            relations.append("behind")
        found[one, other] = relations
    return found


def _union(scene: Scene, masks: list[Mask], group: int) -> Mask:
    return np.any(
        [mask for mask, thing in zip(masks, scene.things, strict=True) if thing.group == group], axis=0
    )


def _beside(one: Box, other: Box, side: int) -> list[Relation]:
    """Left, right, above, under: the boxes do not overlap; next to: they are also near, at one height."""
    right_gap, left_gap = other.left - one.right, one.left - other.right
    below_gap, above_gap = other.top - one.bottom, one.top - other.bottom
    slack = -0.04 * side
    shared_columns = min(one.right, other.right) - max(one.left, other.left)
    shared_rows = min(one.bottom, other.bottom) - max(one.top, other.top)
    on_level = shared_rows > 0.5 * min(one.bottom - one.top, other.bottom - other.top)
    on_top = shared_columns > 0.4 * min(one.right - one.left, other.right - other.left)
    holds: dict[Relation, bool] = {
        "left of": right_gap > slack and shared_rows > 0,
        "right of": left_gap > slack and shared_rows > 0,
        "above": below_gap > slack and on_top,
        "under": above_gap > slack and on_top,
        "next to": on_level and slack < max(right_gap, left_gap) < NEAR * side,
    }
    return [relation for relation, true in holds.items() if true]


def _hides(scene: Scene, picture: Picture, front: int, back: int) -> bool:
    """Whether some thing of `front` covers enough pixels of some thing of `back`."""
    for later, near in enumerate(scene.things):
        for earlier, far in enumerate(scene.things[:later]):
            if (near.group, far.group) == (front, back):
                covered = np.count_nonzero(picture.whole[later] & picture.whole[earlier])
                if covered >= HIDDEN_SHARE * np.count_nonzero(picture.whole[earlier]):
                    return True
    return False
