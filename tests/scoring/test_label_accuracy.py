import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.label_accuracy import area_resize, label_accuracy

CATEGORIES = [
    {"id": 10, "name": "dog", "supercategory": "object"},
    {"id": 20, "name": "cat", "supercategory": "object"},
    {"id": 30, "name": "grass", "supercategory": "background"},
    {"id": 40, "name": "kite", "supercategory": "object"},
]
CONCEPTS = ["cat", "dog", "grass", "sky"]
CAT, DOG, GRASS, SKY = range(4)


def box(
    image_id: int, category_id: int, rows: slice, columns: slice, height: int = 8, width: int = 16
) -> dict:
    mask = np.zeros((height, width), dtype=np.uint8, order="F")
    mask[rows, columns] = 1
    runs = coco_mask.encode(mask)
    segmentation = {"size": runs["size"], "counts": runs["counts"].decode()}
    return {"image_id": image_id, "category_id": category_id, "segmentation": segmentation}


def accuracy(labels: list[list[int]], annotations: list[dict], sizes=((1, 16, 8),), mode: str = "squash"):
    instances = {"categories": CATEGORIES, "annotations": annotations}
    return label_accuracy(np.array(labels, dtype=np.uint16), sizes, instances, CONCEPTS, resize_mode=mode)


LEFT, RIGHT, TOP, BOTTOM = slice(0, 8), slice(8, 16), slice(0, 4), slice(4, 8)
ALL = slice(None)


def test_patches_of_objects_only_count() -> None:
    """2 x 2 patches: the dog fills the left, the cat the upper right; grass is no object."""
    objects = [box(1, 10, ALL, LEFT), box(1, 20, TOP, RIGHT), box(1, 30, BOTTOM, RIGHT)]
    found = accuracy([[DOG, CAT, SKY, SKY]], objects)
    assert (found.accuracy, found.patches) == (pytest.approx(2 / 3), 3)
    assert (found.chance, found.majority) == (1 / 4, pytest.approx(2 / 3))


def test_a_patch_belongs_to_what_covers_most_of_it() -> None:
    objects = [box(1, 10, slice(0, 3), LEFT), box(1, 20, slice(3, 4), LEFT)]
    assert accuracy([[DOG, SKY, SKY, SKY]], objects).accuracy == 1
    assert accuracy([[CAT, SKY, SKY, SKY]], objects).accuracy == 0


def test_half_a_patch_is_enough_and_less_is_not() -> None:
    assert accuracy([[DOG, SKY, SKY, SKY]], [box(1, 10, slice(0, 2), LEFT)]).patches == 1
    with pytest.raises(UserError, match="no patch"):
        accuracy([[DOG, SKY, SKY, SKY]], [box(1, 10, slice(0, 2), slice(0, 7))])


def test_two_instances_of_one_category_are_united() -> None:
    quarters = [box(1, 10, slice(0, 1), LEFT), box(1, 10, slice(1, 2), LEFT)]
    assert accuracy([[DOG, SKY, SKY, SKY]], quarters).patches == 1


def test_objects_that_are_no_concept_do_not_count() -> None:
    objects = [box(1, 40, ALL, LEFT), box(1, 20, TOP, RIGHT)]
    assert accuracy([[SKY, CAT, SKY, SKY]], objects) == accuracy([[CAT, CAT, DOG, SKY]], objects)


def test_a_concept_may_say_the_colour_too() -> None:
    objects = [
        box(1, 10, ALL, LEFT) | {"colour": "brown"},
        box(1, 10, TOP, RIGHT) | {"colour": "black"},
        box(1, 20, BOTTOM, RIGHT) | {"colour": "black"},
    ]
    instances = {"categories": CATEGORIES, "annotations": objects}
    concepts = ["brown dog", "dog", "black cat", "black dog"]
    for labels, right in (([0, 3, 0, 2], 4), ([1, 1, 1, 2], 1)):
        found = label_accuracy(np.array([labels]), ((1, 16, 8),), instances, concepts, resize_mode="squash")
        assert (found.accuracy, found.patches) == (right / 4, 4)
    found = label_accuracy(np.array([[0, 0, 0, 2]]), ((1, 16, 8),), instances, ["dog"], resize_mode="squash")
    assert (found.accuracy, found.patches) == (1, 3)


def test_polygons_and_uncompressed_runs() -> None:
    polygon = {"image_id": 1, "category_id": 10, "segmentation": [[0, 0, 8, 0, 8, 4, 0, 4]]}
    # Column by column, beginning with the zeros: the upper half of eight columns.
    runs = {"size": [8, 16], "counts": [0, *[4, 4] * 7, 4, 68]}
    uncompressed = {"image_id": 1, "category_id": 10, "segmentation": runs}
    for annotation in (polygon, uncompressed):
        found = accuracy([[DOG, SKY, SKY, SKY]], [annotation])
        assert (found.accuracy, found.patches) == (1, 1)


def test_masks_follow_their_own_image() -> None:
    sizes = ((1, 16, 8), (2, 6, 4))
    objects = [box(1, 10, TOP, LEFT), box(2, 20, slice(2, 4), slice(3, 6), 4, 6)]
    assert accuracy([[DOG, SKY, SKY, SKY], [SKY, SKY, SKY, CAT]], objects, sizes).accuracy == 1


def test_cropped_images_are_refused() -> None:
    with pytest.raises(UserError, match="squash, not by shortest"):
        accuracy([[DOG] * 4], [box(1, 10, ALL, ALL)], mode="shortest")


def test_a_grid_has_to_be_square() -> None:
    with pytest.raises(UserError, match="not 5 patches"):
        accuracy([[DOG] * 5], [box(1, 10, ALL, ALL)])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(0, 99))
def test_area_resize_is_exact(height: int, width: int, side: int, seed: int) -> None:
    """Against repeating every pixel `side` times, after which cells hold whole pixels."""
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    fine = mask.repeat(side, axis=0).repeat(side, axis=1).astype(float)
    brute = fine.reshape(side, height, side, width).mean(axis=(1, 3))
    np.testing.assert_allclose(area_resize(mask, side), brute, atol=1e-12)


def test_area_resize_agrees_with_pillow() -> None:
    mask = np.random.default_rng(0).random((48, 60)) < 0.5
    picture = Image.fromarray(mask.astype(np.float32)).resize((4, 4), Image.Resampling.BOX)
    np.testing.assert_allclose(area_resize(mask, 4), np.asarray(picture), atol=1e-6)
