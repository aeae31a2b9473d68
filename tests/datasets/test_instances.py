"""COCO instance files: only our images' objects, masks untouched, other files refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from fsgr_model.datasets.instances import read_instance_files, same_picture
from fsgr_model.datasets.normal_form import ImageRecord
from fsgr_model.runtime.errors import UserError

POLYGON = [[1.5, 2, 3, 4, 5, 6.25]]
RUN_LENGTHS = {"size": [9, 12], "counts": "\\3"}
OURS = [
    ImageRecord(image_id, "train", f"images/{image_id:012}.jpg", 12, 9, 100, "0" * 64)
    for image_id in (41, 42)
]


def instance(number: int, image_id: int, mask: Any, category: int = 7) -> dict[str, Any]:
    return {"id": number, "image_id": image_id, "category_id": category, "segmentation": mask, "iscrowd": 0}


def content() -> dict[str, list[dict[str, Any]]]:
    return {
        "images": [
            {"id": each, "file_name": f"COCO_val2014_{each:012}.jpg", "width": 12, "height": 9}
            for each in (41, 42, 99)
        ],
        "categories": [{"id": 7, "name": "dog", "supercategory": "animal"}],
        "annotations": [instance(3, 42, RUN_LENGTHS), instance(1, 41, POLYGON), instance(2, 99, POLYGON)],
    }


def read(folder: Path, *contents: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    names = [f"instances_{number}.json" for number in range(len(contents))]
    for name, each in zip(names, contents, strict=True):
        (folder / name).write_text(json.dumps(each))
    return read_instance_files(folder, names, OURS)


def test_keeps_our_images_and_leaves_masks_as_they_are(tmp_path: Path) -> None:
    found = read(tmp_path, content())
    assert found["categories"] == [{"id": 7, "name": "dog", "supercategory": "animal"}]
    assert found["annotations"] == [instance(1, 41, POLYGON), instance(3, 42, RUN_LENGTHS)]


def test_no_files_no_objects(tmp_path: Path) -> None:
    assert read(tmp_path) == {"categories": [], "annotations": []}


def test_other_images(tmp_path: Path) -> None:
    other = content()
    other["images"] = other["images"][2:]
    with pytest.raises(UserError, match="none of its image ids is in the caption files"):
        read(tmp_path, other)


def test_same_id_another_name(tmp_path: Path) -> None:
    other = content()
    other["images"][1]["file_name"] = "COCO_val2014_000000000077.jpg"
    with pytest.raises(
        UserError, match=r"image 42 is COCO_val2014_000000000077\.jpg there, images/000000000042"
    ):
        read(tmp_path, other)


def test_masks_of_another_size(tmp_path: Path) -> None:
    other = content()
    other["images"][0]["width"] = 640
    with pytest.raises(UserError, match=r"masks do not fit the images: image 41: 640x9 there, 12x9 here"):
        read(tmp_path, other)


def test_category_with_two_names(tmp_path: Path) -> None:
    other = content()
    other["annotations"] = []
    other["categories"][0]["name"] = "cat"
    with pytest.raises(UserError, match="category 7 is called 'cat' and 'dog'"):
        read(tmp_path, content(), other)


def test_category_that_is_not_listed(tmp_path: Path) -> None:
    other = content()
    other["annotations"].append(instance(8, 41, POLYGON, category=9))
    with pytest.raises(UserError, match="a category that is not listed: 8"):
        read(tmp_path, other)


def test_duplicate_instance(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="duplicate instance id 3"):
        read(tmp_path, content(), content())


@pytest.mark.parametrize(
    "mask",
    [
        [], [[]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5, "6"]], [[1, 2, 3, 4, 5, 1e300]], [7],
        {}, [[1, 2, 3, 4, 5, float("nan")]], {"size": [9, 12]}, {"size": [9, 12], "counts": [9, 12]},
        {"size": [9, 12], "counts": [-1, 109]}, {"size": [12, 9], "counts": "\\3"},
        {"size": [9, 12], "counts": ""}, {"size": [9, 12], "counts": "zzz"}, {"size": 3, "counts": 4},
        {"size": [9, 12], "counts": "\ud83d\ude00"},
    ],
)  # fmt: skip
def test_a_mask_that_cannot_be_drawn(tmp_path: Path, mask: Any) -> None:
    """pycocotools would fill some of them with whatever lies in the memory."""
    other = content()
    other["annotations"][1]["segmentation"] = mask
    with pytest.raises(UserError, match=r"instances_0\.json: .*instances 1; correct the file"):
        read(tmp_path, other)


def test_packed_run_lengths_are_those_of_pycocotools(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    for share in (0.0, 0.01, 0.5, 0.9, 1.0):
        mask = np.asfortranarray(dice.random((9, 12)) < share, dtype=np.uint8)
        packed = coco_mask.encode(mask)["counts"].decode()
        other = content()
        other["annotations"][1]["segmentation"] = {"size": [9, 12], "counts": packed}
        read(tmp_path, other)
        other["annotations"][1]["segmentation"]["counts"] = packed + "1"
        with pytest.raises(UserError, match="instances 1; correct the file"):
            read(tmp_path, other)


def test_the_images_that_the_files_list_are_told_where_they_are_a_part(tmp_path: Path) -> None:
    """Of the others no objects are known: CHAIR would take all that is said of them for invented."""
    part = content()
    part["images"] = part["images"][:1]
    part["annotations"] = []
    assert read(tmp_path, part)["images"] == [{"id": 41}]
    assert "images" not in read(tmp_path, content())


@pytest.mark.parametrize(
    ("theirs", "same"),
    [("000000000042.jpg", True), ("COCO_val2014_000000000042.jpg", True), ("9000000000042.jpg", False)],
)
def test_a_name_that_ends_alike_is_another(theirs: str, same: bool) -> None:
    assert same_picture(theirs, "val2017/000000000042.jpg") is same
