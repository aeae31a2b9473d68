"""Karpathy's split files: COCO's have cocoid and filepath, those of Flickr neither."""

import json
from typing import Any

import pytest

from fsgr_model.datasets.karpathy import read_karpathy
from fsgr_model.datasets.normal_form import read_captions, read_images
from fsgr_model.runtime.errors import UserError
from tests.worlds.small_dataset import SmallDataset, karpathy_entry

NAME = "dataset_small.json"
SPLITS = {11: "train", 12: "train", 13: "restval", 21: "val", 31: "test"}


def write_entries(small: SmallDataset, entries: list[dict[str, Any]]) -> None:
    (small.root / NAME).write_text(json.dumps({"images": entries, "dataset": "coco"}))


def without_cocoid(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in ("cocoid", "filepath")}


def test_restval_is_training_and_cocoid_names_the_image(small: SmallDataset) -> None:
    write_entries(small, [karpathy_entry(image_id, split) for image_id, split in SPLITS.items()])
    folder = small.build_written(format="karpathy", karpathy_file=NAME, images=".")
    assert {image.image_id: image.split for image in read_images(folder)} == SPLITS | {13: "train"}
    assert read_images(folder)[0].path == str(small.root / "images" / "11.png")
    (caption,) = read_captions(folder)[31]
    assert (caption.annotation_id, caption.text) == (131, "A dog, number 31.")


def test_without_cocoid_imgid_names_the_image(small: SmallDataset) -> None:
    write_entries(small, [without_cocoid(karpathy_entry(each, split)) for each, split in SPLITS.items()])
    folder = small.build_written(format="karpathy", karpathy_file=NAME, images="images")
    assert [image.image_id for image in read_images(folder)] == [0, 1, 2, 10, 20]


def test_cocoid_for_some_images_only(small: SmallDataset) -> None:
    write_entries(small, [karpathy_entry(11, "train"), without_cocoid(karpathy_entry(12, "val"))])
    with pytest.raises(UserError, match="give every image a cocoid or none; missing for imgid 1"):
        read_karpathy(small.root, NAME)


def test_unknown_split(small: SmallDataset) -> None:
    write_entries(small, [karpathy_entry(11, "trainval")])
    with pytest.raises(UserError, match=r"images\[0\]\.split: .* \(found 'trainval'\)"):
        read_karpathy(small.root, NAME)


def test_sentence_without_text(small: SmallDataset) -> None:
    write_entries(small, [karpathy_entry(11, "train", sentences=[{"sentid": 4}])])
    with pytest.raises(UserError, match=r"images\[0\]\.sentences\[0\]\.raw: missing"):
        read_karpathy(small.root, NAME)


def test_image_in_training_and_restval(small: SmallDataset) -> None:
    write_entries(
        small, [karpathy_entry(each, split) for each, split in SPLITS.items()] + [karpathy_entry(11, "test")]
    )
    with pytest.raises(UserError, match=r"splits overlap: the same image id .*: 11 \(train, test\)"):
        small.build_written(format="karpathy", karpathy_file=NAME, images=".")
