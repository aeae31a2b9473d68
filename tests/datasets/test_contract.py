"""Each rule between images and captions is refused with a message that names rule, entries and remedy."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from fsgr_model.runtime.errors import UserError
from tests.worlds.small_dataset import SmallDataset

Files = dict[str, dict[str, list[dict[str, Any]]]]


def set_value(split: str, part: str, place: int, key: str, value: Any) -> Callable[[Files], None]:
    return lambda files: files[split][part][place].__setitem__(key, value)


def drop_key(split: str, part: str, place: int, key: str) -> Callable[[Files], None]:
    return lambda files: files[split][part][place].__delitem__(key)


def repeat(split: str, part: str, place: int) -> Callable[[Files], None]:
    return lambda files: files[split][part].append(dict(files[split][part][place]))


def swap_ids(files: Files) -> None:
    for entry in files["train"]["annotations"]:
        entry["id"], entry["image_id"] = entry["image_id"], entry["id"]


def annotation_ids_for_images(files: Files) -> None:
    """Every annotation names an annotation where its image should stand."""
    for entry in files["train"]["annotations"]:
        entry["image_id"] = entry["id"]


def move_to_val(files: Files) -> None:
    """The first training image is in the validation split as well."""
    files["val"]["images"].append(files["train"]["images"][0])
    files["val"]["annotations"].extend(
        entry | {"id": 900 + entry["id"]}
        for entry in files["train"]["annotations"]
        if entry["image_id"] == 11
    )


def remove_captions_of_12_and_14(files: Files) -> None:
    kept = [entry for entry in files["train"]["annotations"] if entry["image_id"] not in (12, 14)]
    files["train"]["annotations"] = kept


def empty_val(files: Files) -> None:
    files["val"] = {"images": [], "annotations": []}


BROKEN: dict[str, tuple[Callable[[Files], None], str]] = {
    "unknown image": (
        set_value("train", "annotations", 0, "image_id", 99),
        "captions of unknown images: image 99 (annotation 110 in captions_train.json); add the images",
    ),
    "image of another split": (
        set_value("train", "annotations", 0, "image_id", 21),
        "captions of unknown images: image 21 (annotation 110 in captions_train.json)",
    ),
    "ids swapped": (swap_ids, "are `id` and `image_id` of the annotations swapped?"),
    "annotation ids for image ids": (annotation_ids_for_images, "these look like annotation ids"),
    "image without captions": (
        remove_captions_of_12_and_14,
        "images without captions: 12 (12.png in captions_train.json); 14 (14.png in captions_train.json)",
    ),
    "empty caption": (
        set_value("val", "annotations", 1, "caption", "  "),
        "captions without a word: annotation 211 of image 21 in captions_val.json ('  ')",
    ),
    "only punctuation": (
        set_value("test", "annotations", 0, "caption", "..."),
        "captions without a word: annotation 310 of image 31 in captions_test.json ('...')",
    ),
    "duplicate image id": (
        set_value("train", "images", 1, "id", 11),
        "duplicate image id: 11 (2 times in captions_train.json)",
    ),
    "duplicate file name": (
        set_value("train", "images", 1, "file_name", "./11.png"),
        "duplicate file name: 11.png (2 times in captions_train.json)",
    ),
    "duplicate annotation id": (
        set_value("train", "annotations", 2, "id", 110),
        "duplicate annotation id: 110 in captions_train.json (images 11, 12); give each caption of a file",
    ),
    "image in two splits": (
        move_to_val,
        "splits overlap: the same file name is in two of train, val and test: 11.png (train, val)",
    ),
    "file in two splits": (
        set_value("val", "images", 0, "file_name", "11.png"),
        "splits overlap: the same file name is in two of train, val and test: 11.png (train, val)",
    ),
    "id that is text": (
        set_value("train", "images", 2, "id", "13"),
        "captions_train.json: images[2].id: Input should be a valid integer (found '13')",
    ),
    "id that is a fraction": (
        set_value("train", "annotations", 3, "image_id", 12.0),
        "annotations[3].image_id: Input should be a valid integer (found 12.0)",
    ),
    "id that is true": (set_value("val", "annotations", 0, "id", True), "annotations[0].id: Input should be"),
    "caption that is null": (
        set_value("val", "annotations", 0, "caption", None),
        "captions_val.json: annotations[0].caption: Input should be a valid string (found None)",
    ),
    "missing key": (drop_key("train", "annotations", 5, "image_id"), "annotations[5].image_id: missing"),
    "missing list": (lambda files: files["test"].pop("images"), "captions_test.json: images: missing"),
    "file is a list": (lambda files: files.update(val=[]), "captions_val.json: the file: "),
    "name leads out": (
        set_value("train", "images", 0, "file_name", "../11.png"),
        "stay below dataset.images, without '..'; found '../11.png' (image 11 in captions_train.json)",
    ),
    "name is absolute": (set_value("train", "images", 0, "file_name", "/etc/passwd"), "found '/etc/passwd'"),
    "name is empty": (set_value("train", "images", 0, "file_name", ""), "found '' (image 11"),
    "empty split": (empty_val, "each of the splits train, val and test needs images; none is left in val"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_rule_is_refused_and_nothing_is_written(small: SmallDataset, name: str) -> None:
    break_it, message = BROKEN[name]
    break_it(small.files)
    with pytest.raises(UserError, match=re.escape(message)) as refusal:
        small.build()
    assert "\n" not in str(refusal.value)
    assert list(small.root.parent.glob("made/*")) == []


def test_a_mark_before_the_text_is_let_pass(small: SmallDataset) -> None:
    """Some editors of Windows write it."""
    small.write()
    path = small.root / "captions_train.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert (small.build_written() / "captions.json").is_file()


def test_invalid_json_names_line_and_column(small: SmallDataset) -> None:
    small.write()
    (small.root / "captions_val.json").write_text('{"images": [],\n "annotations": [}')
    with pytest.raises(UserError, match=r"captions_val\.json is not valid JSON: line 2, column 18"):
        small.build_written()


def test_a_long_list_says_how_many_more(small: SmallDataset) -> None:
    small.files["train"]["annotations"] += [
        {"id": 5000 + number, "image_id": 6000 + number, "caption": "A dog."} for number in range(25)
    ]
    with pytest.raises(
        UserError, match=r"image 6019 \(annotation 5019 in captions_train\.json\) and 5 more;"
    ):
        small.build()
