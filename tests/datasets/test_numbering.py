"""Image and annotation ids belong to their file: they may begin anew in each; annotations may have none."""

from pathlib import Path

import pytest

from fsgr_model.datasets.normal_form import read_captions, read_images
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError
from tests.worlds.small_dataset import SmallDataset


def begin_anew(small: SmallDataset, *, images: bool = True, annotations: bool = True) -> dict[str, list[str]]:
    """Number each file from 1; the captions of each picture's file as they were."""
    said: dict[str, list[str]] = {}
    for content in small.files.values():
        names = {image["id"]: image["file_name"] for image in content["images"]}
        number_of = {image_id: number for number, image_id in enumerate(names, start=1)}
        for number, annotation in enumerate(content["annotations"], start=1):
            said.setdefault(names[annotation["image_id"]], []).append(annotation["caption"])
            if images:
                annotation["image_id"] = number_of[annotation["image_id"]]
            if annotations:
                annotation["id"] = number
        for image in content["images"]:
            if images:
                image["id"] = number_of[image["id"]]
    return said


def captions_by_picture(folder: Path) -> dict[str, list[str]]:
    captions = read_captions(folder)
    return {
        Path(image.path).name: [caption.text for caption in captions[image.image_id]]
        for image in read_images(folder)
    }


@pytest.mark.parametrize(("images", "annotations"), [(True, True), (False, True), (True, False)])
def test_ids_that_begin_anew_are_read_and_told(small: SmallDataset, images: bool, annotations: bool) -> None:
    said = begin_anew(small, images=images, annotations=annotations)
    folder = small.build()
    assert captions_by_picture(folder) == said
    records = [caption for of_image in read_captions(folder).values() for caption in of_image]
    assert len({record.annotation_id for record in records}) == len(records)
    assert len({image.image_id for image in read_images(folder)}) == len(said)
    notes = load_json(folder / "report.json")["notes"]
    assert sum("ids" in note for note in notes) >= images + annotations - (images and annotations)


def test_captions_of_an_image_stay_in_order_where_some_ids_are_those_of_another_file(
    small: SmallDataset,
) -> None:
    train, val = (small.files[split]["annotations"] for split in ("train", "val"))
    said = [caption["caption"] for caption in train if caption["image_id"] == 11]
    train[0]["id"] = val[0]["id"]
    train[1]["id"] = val[0]["id"] + 5
    folder = small.build()
    assert [caption.text for caption in read_captions(folder)[11]] == said
    ids = [
        caption.annotation_id for image_id in (11, 12, 13, 14) for caption in read_captions(folder)[image_id]
    ]
    assert min(ids) > 1_000_000_000
    assert [caption.annotation_id for caption in read_captions(folder)[21]] == [each["id"] for each in val]


def test_ids_that_are_unique_stay_the_users_own(small: SmallDataset) -> None:
    folder = small.build()
    assert [image.image_id for image in read_images(folder)] == [11, 12, 13, 14, 21, 31]
    assert not any("id" in note for note in load_json(folder / "report.json").get("notes", []))


def test_annotations_without_ids_are_read(small: SmallDataset) -> None:
    said = begin_anew(small, images=False, annotations=False)
    for content in small.files.values():
        for annotation in content["annotations"]:
            del annotation["id"]
    folder = small.build()
    assert captions_by_picture(folder) == said
    assert any("annotations have no id" in note for note in load_json(folder / "report.json")["notes"])


def test_a_picture_in_two_splits_is_still_refused(small: SmallDataset) -> None:
    begin_anew(small)
    name = small.files["train"]["images"][0]["file_name"]
    small.files["val"]["images"][0]["file_name"] = name
    with pytest.raises(UserError, match=rf"splits overlap: the same file name .*{name}"):
        small.build()
