"""Lists that name COCO's pictures as one of its releases does, and folders as the other does."""

import json
from pathlib import Path

import pytest

from fsgr_model.datasets.coco_pictures import coco_id
from fsgr_model.datasets.normal_form import read_images
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError
from tests.worlds.small_dataset import SmallDataset, draw_noise, karpathy_entry, write_instances

NAME = "dataset_small.json"
SPLITS = {11: "train", 12: "restval", 21: "val", 31: "test"}
# The release of 2017 took its validation set out of val2014.
IN_2017 = {
    11: "train2017/000000000011.jpg",
    12: "train2017/000000000012.jpg",
    21: "val2017/000000000021.jpg",
    31: "train2017/000000000031.jpg",
}


def karpathy(small: SmallDataset) -> None:
    entries = []
    for number, split in SPLITS.items():
        folder = "train2014" if split == "train" else "val2014"
        name = f"COCO_{folder}_{number:012}.jpg"
        entries.append(karpathy_entry(number, split, filename=name, filepath=folder))
    (small.root / NAME).write_text(json.dumps({"images": entries}))


def draw(small: SmallDataset, places: dict[int, str]) -> None:
    for number, place in places.items():
        path = small.root / place
        path.parent.mkdir(exist_ok=True)
        draw_noise(path, number)


def build(small: SmallDataset) -> Path:
    return small.build_written(format="karpathy", karpathy_file=NAME, images=".", instances=[])


def test_karpathys_file_with_the_pictures_of_2017(small: SmallDataset) -> None:
    karpathy(small)
    draw(small, IN_2017)
    write_instances(small.root, [11, 21], "{:012}.jpg")
    folder = small.build_written(
        format="karpathy", karpathy_file=NAME, images=".", instances=["instances.json"]
    )
    images = read_images(folder)
    assert {each.image_id: each.path for each in images} == {
        number: str(small.root / place) for number, place in IN_2017.items()
    }
    assert [each.split for each in images] == ["train", "train", "val", "test"]
    assert load_json(folder / "report.json")["notes"] == [
        "3 pictures are not where their list says, but where COCO's releases have them: train2017/<id>.jpg",
        "1 pictures are not where their list says, but where COCO's releases have them: val2017/<id>.jpg",
    ]


def test_all_pictures_in_one_folder(small: SmallDataset) -> None:
    karpathy(small)
    draw(small, {number: Path(place).name for number, place in IN_2017.items()})
    assert len(read_images(build(small))) == 4


def test_the_place_of_the_list_comes_first(small: SmallDataset) -> None:
    karpathy(small)
    draw(small, IN_2017 | {0: "train2014/COCO_train2014_000000000011.jpg"})
    assert read_images(build(small))[0].path.endswith("train2014/COCO_train2014_000000000011.jpg")


def test_a_picture_that_is_nowhere_is_missing_by_its_own_name(small: SmallDataset) -> None:
    karpathy(small)
    draw(small, IN_2017)
    (small.root / IN_2017[21]).unlink()
    with pytest.raises(UserError, match=r"1 in all: val2014/COCO_val2014_000000000021\.jpg .*: missing"):
        build(small)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("val2014/COCO_val2014_000000000042.jpg", 42),
        ("000000391895.jpg", 391895),
        ("COCO_test2015_000000000001.JPG", 1),
        ("00000000042.jpg", None),
        ("1000092795.jpg", None),
        ("COCO_val2014_000000000042.png", None),
        ("x_000000000042.jpg", None),
    ],
)
def test_the_id_in_a_name(name: str, number: int | None) -> None:
    assert coco_id(name) == number
