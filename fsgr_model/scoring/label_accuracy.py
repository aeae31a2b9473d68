"""How often a label map names the object that covers a patch.

Shapes: N images, G patches of a square grid of `side`, K concepts, H and W pixels.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.chair import BACKGROUND

LEAST_COVER = 0.5


@dataclass(frozen=True)
class LabelAccuracy:
    """`accuracy` over `patches` object patches; `chance` is 1/K, `majority` is that of the best constant."""

    accuracy: float
    chance: float
    majority: float
    patches: int


def label_accuracy(
    label_NG: NDArray[np.integer],
    sizes: Sequence[tuple[int, int, int]],
    instances: Mapping[str, Sequence[dict[str, Any]]],
    concepts: Sequence[str],
    *,
    resize_mode: str,
) -> LabelAccuracy:
    """Share of object patches whose label is the category that covers most of the patch.

    A patch counts if objects cover at least half of it and the category covering most of it is a concept.
    Where an instance has a `colour`, as the demo's have, and "brown cat" is a concept, that is its label.

    Args:
        label_NG: concept ids, one row per image.
        sizes: image id, width and height in pixels of each row.
        instances: COCO `categories` and `annotations`; a supercategory "background" is no object.
        concepts: the K names that the labels stand for.
        resize_mode: how CLIP saw the images; masks are resized in the same way, so it has to be `squash`.

    Raises:
        UserError: another resize mode, a grid that is not square, or no object patch at all.
    """
    if resize_mode != "squash":
        raise UserError(f"label accuracy needs images resized by squash, not by {resize_mode}")
    side = round(label_NG.shape[1] ** 0.5)
    if side * side != label_NG.shape[1]:
        raise UserError(f"label accuracy needs a square grid of patches, not {label_NG.shape[1]} patches")
    name_of = {row["id"]: row["name"] for row in instances["categories"] if not _is_background(row)}
    concept_id = {name: number for number, name in enumerate(concepts)}
    by_image = defaultdict(list)
    for annotation in instances["annotations"]:
        if annotation["category_id"] in name_of:
            name = name_of[annotation["category_id"]]
            look = f"{annotation['colour']} {name}" if "colour" in annotation else name
            concept = concept_id.get(look, concept_id.get(name, -1))
            by_image[annotation["image_id"]].append((annotation["category_id"], concept, annotation))
    answers: Counter[int] = Counter()
    right = 0
    for label_G, (image_id, width, height) in zip(label_NG, sizes, strict=True):
        truth_G = _object_patches(by_image[image_id], width, height=height, side=side)
        answers.update(truth_G[truth_G >= 0].tolist())
        right += int(((label_G == truth_G) & (truth_G >= 0)).sum())
    patches = answers.total()
    if not patches:
        raise UserError("label accuracy: no patch is covered by an object that is one of the concepts")
    majority = answers.most_common(1)[0][1] / patches
    return LabelAccuracy(right / patches, 1 / len(concepts), majority, patches)


def _is_background(category: Mapping[str, Any]) -> bool:
    return category.get("supercategory") == BACKGROUND


def _object_patches(
    objects: Sequence[tuple[int, int, dict[str, Any]]], width: int, *, height: int, side: int
) -> NDArray[np.int64]:
    """The right concept of each patch, -1 for patches that do not count; int64 [G].

    Args:
        objects: category id, concept (-1 where none has its name) and annotation of each.
    """
    masks: dict[tuple[int, int], NDArray[np.bool_]] = {}
    for category_id, concept, annotation in objects:
        mask_HW = _mask(annotation["segmentation"], width, height)
        known = masks.get((category_id, concept))
        masks[category_id, concept] = mask_HW if known is None else known | mask_HW
    if not masks:
        return np.full(side * side, -1, dtype=np.int64)
    anything_HW = np.logical_or.reduce(list(masks.values()))
    covers = np.stack([area_resize(mask_HW, side).ravel() for mask_HW in masks.values()])
    concepts = np.array([concept for _, concept in masks], dtype=np.int64)
    # An average of half the pixels may come out a rounding error below one half.
    covered_G = area_resize(anything_HW, side).ravel() >= LEAST_COVER - 1e-9
    return np.where(covered_G, concepts[covers.argmax(axis=0)], -1)


def _mask(segmentation: Any, width: int, height: int) -> NDArray[np.bool_]:
    """A COCO segmentation (polygons, or run lengths, compressed or not) as bool [H, W]."""
    if isinstance(segmentation, list):
        runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        runs = coco_mask.frPyObjects(segmentation, height, width)
    else:
        runs = segmentation
    return coco_mask.decode(runs).astype(bool)


def area_resize(mask_HW: NDArray[np.bool_], side: int) -> NDArray[np.float64]:
    """The exact share of each cell of a square grid that the mask covers; float64 [side, side]."""
    rows, columns = (_shares(length, side) for length in mask_HW.shape)
    return rows @ mask_HW.astype(np.float64) @ columns.T


def _shares(length: int, side: int) -> NDArray[np.float64]:
    """How much of each cell each pixel makes up, along one axis: [side, length], rows sum to 1."""
    edges = np.arange(side + 1) * (length / side)
    pixels = np.arange(length)
    upper = np.minimum(edges[1:, None], pixels + 1)
    lower = np.maximum(edges[:-1, None], pixels)
    return np.clip(upper - lower, 0, None) * (side / length)
