"""The layout of COCO's own releases: a folder of images a split, file names without it, a test file without
captions."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from fsgr_model.datasets.normal_form import read_captions, read_images
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError
from tests.worlds.small_dataset import IMAGE_IDS, SmallDataset, write_instances

FOLDERS = {"train": "train2017", "val": "val2017", "test": "test2017"}


@pytest.fixture
def release(small: SmallDataset) -> SmallDataset:
    """COCO's keys, file names of twelve digits, in three folders."""
    for split, folder in FOLDERS.items():
        (small.root / folder).mkdir()
        for image in small.files[split]["images"]:
            name = f"{image['id']:012}.jpg"
            (small.root / "images" / image["file_name"]).rename(small.root / folder / name)
            image |= {"file_name": name, "license": 3, "height": 9, "width": 12, "coco_url": "http://x"}
        small.files[split] |= {"info": {"year": 2017}, "licenses": [], "type": "captions"}  # type: ignore[dict-item]
    return small


def test_each_split_has_its_folder(release: SmallDataset) -> None:
    folder = release.build(images=FOLDERS)
    paths = {image.image_id: image.path for image in read_images(folder)}
    assert paths[11] == str(release.root / "train2017" / "000000000011.jpg")
    assert paths[31] == str(release.root / "test2017" / "000000000031.jpg")
    assert len(read_captions(folder)) == 6


def test_masks_of_the_same_release(release: SmallDataset) -> None:
    write_instances(release.root, [11, 21], "{:012}.jpg")
    folder = release.build(images=FOLDERS, instances=["instances.json"])
    assert load_json(folder / "report.json")["instances"]["images_with_objects"] == 2


@pytest.mark.parametrize("annotations", [None, []])
def test_a_test_file_without_captions(release: SmallDataset, annotations: list[object] | None) -> None:
    """image_info_test2014.json and its like."""
    if annotations is None:
        del release.files["test"]["annotations"]
    else:
        release.files["test"]["annotations"] = []
    folder = release.build(images=FOLDERS)
    assert [image.image_id for image in read_images(folder, "test")] == list(IMAGE_IDS["test"])
    assert 31 not in read_captions(folder)
    assert load_json(folder / "report.json")["splits"]["test"] == {"images": 1, "captions": 0}


def test_only_the_test_file_may_be_without(release: SmallDataset) -> None:
    del release.files["val"]["annotations"]
    with pytest.raises(UserError, match=r"captions_val\.json: annotations: missing; only the test file"):
        release.build(images=FOLDERS)


def test_a_part_of_the_test_split_may_not_be_without(release: SmallDataset) -> None:
    release.files["test"]["images"].append({"id": 32, "file_name": "000000000032.jpg"})
    with pytest.raises(UserError, match=r"images without captions: 32 .*only a whole test split may have"):
        release.build(images=FOLDERS)


def test_a_folder_that_is_not_there(release: SmallDataset) -> None:
    with pytest.raises(UserError, match=r"dataset\.images: there is no folder .*test2014"):
        release.build(images=FOLDERS | {"test": "test2014"})


def test_one_split_of_three_is_not_enough(small: SmallDataset) -> None:
    with pytest.raises(ValidationError, match=r"images\.PerSplit\.val\n.*Field required"):
        small.params(images={"train": "train2017"})


def test_another_format_has_one_folder(small: SmallDataset) -> None:
    with pytest.raises(ValidationError, match=r"karpathy\.images\n.*should be a valid string"):
        small.params(images=FOLDERS, format="karpathy", karpathy_file="dataset_coco.json")


def test_domains_of_the_file_are_kept(small: SmallDataset) -> None:
    small.files["test"]["images"][0]["domain"] = "indoors"
    folder: Path = small.build()
    assert [image.domain for image in read_images(folder)] == [""] * 5 + ["indoors"]
