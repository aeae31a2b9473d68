"""M2's id files: annotation ids, told from image ids, from a mixture and from files that do not belong."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsgr_model.config.dataset_params import M2Params
from fsgr_model.datasets.contract import check_contract
from fsgr_model.datasets.m2 import read_m2
from fsgr_model.datasets.normal_form import read_captions, read_images
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError
from tests.worlds.small_dataset import SmallDataset, draw_noise

REAL = "FSGR_COCO_DATA"
# Image ids by caption file; each image has five captions, of ids that look like image ids.
IMAGES = {"train2014": (11, 12), "val2014": (13, 21, 31)}
FILE_OF = {"train": (11, 12), "restval": (13,), "dev": (21,), "test": (31,)}


def annotation_ids(image_id: int) -> list[int]:
    """The third caption of an image has the id of another image: such chance hits are real."""
    return [31 if image_id == 21 and number == 2 else 10 * image_id + number for number in range(5)]


@pytest.fixture
def folder(small: SmallDataset) -> SmallDataset:
    for name, image_ids in IMAGES.items():
        (small.root / name).mkdir()
        content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
        for image_id in image_ids:
            file_name = f"COCO_{name}_{image_id:012}.png"
            draw_noise(small.root / name / file_name, image_id)
            content["images"].append({"id": image_id, "file_name": file_name})
            content["annotations"] += [
                {"id": each, "image_id": image_id, "caption": f"A dog, caption {each}."}
                for each in annotation_ids(image_id)
            ]
        (small.root / f"captions_{name}.json").write_text(json.dumps(content))
    for name, image_ids in FILE_OF.items():
        write_ids(small, name, [each for image_id in image_ids for each in annotation_ids(image_id)])
    return small


def write_ids(small: SmallDataset, name: str, ids: Any) -> None:
    np.save(small.root / f"coco_{name}_ids.npy", np.asarray(ids))


def settings(partial: bool = False, names: tuple[str, ...] = tuple(IMAGES)) -> dict[str, Any]:
    sources = [{"captions": f"captions_{name}.json", "images": name} for name in names]
    return {"ids": ".", "sources": sources, "partial": partial}


def build(small: SmallDataset, **changes: Any) -> Path:
    return small.build_written(format="m2", m2=settings(**changes))


def test_splits_and_paths(folder: SmallDataset) -> None:
    made = build(folder)
    assert {image.image_id: image.split for image in read_images(made)} == {
        11: "train", 12: "train", 13: "train", 21: "val", 31: "test",
    }  # fmt: skip
    assert read_images(made)[2].path == str(folder.root / "val2014" / "COCO_val2014_000000000013.png")
    assert [caption.annotation_id for caption in read_captions(made)[21]] == [31, 210, 211, 213, 214]


def test_captions_that_no_file_names_are_left_out_and_counted(folder: SmallDataset) -> None:
    write_ids(folder, "train", annotation_ids(11)[:4])
    made = build(folder)
    assert len(read_captions(made)[11]) == 4 and 12 not in read_captions(made)
    notes = load_json(made / "report.json")["notes"]
    assert notes[0] == "coco_train_ids.npy: 4 of 4 captions, of 1 images"
    assert notes[-1] == "left out, since no id file names them: 6 captions, 1 images"


@pytest.mark.parametrize("partial", [False, True])
def test_image_ids_are_refused_as_such(folder: SmallDataset, partial: bool) -> None:
    for name, image_ids in FILE_OF.items():
        write_ids(folder, name, image_ids)
    with pytest.raises(UserError, match="image ids"):
        build(folder, partial=partial)


def test_one_file_of_image_ids(folder: SmallDataset) -> None:
    """One of them is the id of an annotation as well, but not all are."""
    write_ids(folder, "dev", [210, 211, 213, 214])
    write_ids(folder, "test", [31, 21])
    with pytest.raises(
        UserError,
        match=r"coco_test_ids\.npy: 1 of 2 ids are not ids of annotations in captions_train2014\.json; "
        r"captions_val2014\.json: 21; all ids of the file are image ids",
    ):
        build(folder)


def test_image_ids_among_annotation_ids(folder: SmallDataset) -> None:
    write_ids(folder, "test", [*annotation_ids(31), 13])
    with pytest.raises(UserError, match=r"1 of 6 ids .*: 13; these are image ids, mixed with annotation ids"):
        build(folder)


def test_ids_of_a_caption_file_that_is_not_named(folder: SmallDataset) -> None:
    with pytest.raises(
        UserError,
        match=r"coco_train_ids\.npy: 10 of 10 ids .*; 0 of them are image ids; a caption file",
    ):
        build(folder, names=("val2014",))


def test_a_part_of_the_caption_files(folder: SmallDataset) -> None:
    made = build(folder, names=("val2014",), partial=True)
    assert [image.image_id for image in read_images(made)] == [13, 21, 31]
    assert "coco_train_ids.npy: 0 of 10 captions, of 0 images" in load_json(made / "report.json")["notes"]


def test_an_image_in_two_splits(folder: SmallDataset) -> None:
    write_ids(folder, "dev", annotation_ids(21)[:3])
    write_ids(folder, "test", [*annotation_ids(31), *annotation_ids(21)[3:]])
    with pytest.raises(UserError, match=r"splits overlap: the same image id .*: 21 \(test, val\)"):
        build(folder)


def test_an_id_in_two_files(folder: SmallDataset) -> None:
    write_ids(folder, "test", [*annotation_ids(31), 110])
    with pytest.raises(UserError, match=r"ids that occur twice .*: 110 \(train, test\)"):
        build(folder)


def test_a_file_that_is_missing(folder: SmallDataset) -> None:
    (folder.root / "coco_dev_ids.npy").unlink()
    with pytest.raises(UserError, match=r"coco_dev_ids\.npy does not exist; dataset\.m2\.ids is the folder"):
        build(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array([1.0, 2.0]), "must hold one list of whole numbers"),
        (np.array([[1, 2]]), "must hold one list of whole numbers"),
        (np.array([{"id": 1}], dtype=object), "is not a NumPy file"),
    ],
)
def test_a_file_of_something_else(folder: SmallDataset, content: Any, message: str) -> None:
    np.save(folder.root / "coco_dev_ids.npy", content, allow_pickle=True)
    with pytest.raises(UserError, match=rf"coco_dev_ids\.npy {message}"):
        build(folder)


@pytest.mark.skipif(REAL not in os.environ, reason=f"{REAL} names no folder of COCO captions and id files")
def test_the_published_files_on_val2017() -> None:
    """The captions of val2017 that M2's id files name: 3,799 images of restval, 608 of dev, 593 of test."""
    params = M2Params.model_validate(settings(True, ("val2017",)))
    dataset = read_m2(Path(os.environ[REAL]), params)
    check_contract(dataset)
    assert Counter(image.split for image in dataset.images) == {"train": 3799, "val": 608, "test": 593}
    assert len({image.image_id for image in dataset.images}) == 3799 + 608 + 593
    assert len(dataset.captions) == 25_000
    assert dataset.notes[1:] == [
        "coco_restval_ids.npy: 18995 of 152520 captions, of 3799 images",
        "coco_dev_ids.npy: 3040 of 25000 captions, of 608 images",
        "coco_test_ids.npy: 2965 of 25000 captions, of 593 images",
        "left out, since no id file names them: 14 captions, 0 images",
    ]
    with pytest.raises(
        UserError, match=r"413915 of 413915 ids .*2497 of them are image ids; a caption file may"
    ):
        read_m2(Path(os.environ[REAL]), params.model_copy(update={"partial": False}))
