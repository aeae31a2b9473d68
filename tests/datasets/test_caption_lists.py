"""Lists of BLIP and LAVIS, TextCaps and Localized Narratives; fixtures made after their descriptions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fsgr_model.datasets.normal_form import read_captions, read_images, read_tokens, tokens_of
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError
from pipeline.dataset import build_dataset
from tests.worlds.small_dataset import FILES, SmallDataset, draw_noise

BLIP: dict[str, list[dict[str, Any]]] = {
    "train": [
        {"caption": "A table.", "image": "train2014/COCO_train2014_000000000009.jpg", "image_id": "coco_9"},
        {"caption": "Food.", "image": "train2014/COCO_train2014_000000000009.jpg", "image_id": "coco_9"},
        {"caption": "A horse.", "image": "val2014/COCO_val2014_000000000136.jpg", "image_id": "coco_136"},
    ],
    "val": [{"image": "val2014/COCO_val2014_000000000042.jpg", "caption": ["A dog.", "A brown dog."]}],
    "test": [{"image": "val2014/COCO_val2014_000000000073.jpg", "caption": ["A bike.", "Two bikes."]}],
}


def build(small: SmallDataset, form: str, files: dict[str, Any], **changes: Any) -> Path:
    """Write a list a split, draw the pictures that `pictures` names, run the stage."""
    for split, content in files.items():
        (small.root / FILES[split]).write_text(
            content if isinstance(content, str) else json.dumps(content), encoding="utf-8"
        )
    return small.build_written(format=form, **changes)


def draw(small: SmallDataset, *names: str) -> None:
    for number, name in enumerate(names):
        place = small.root / "images" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        draw_noise(place, number)


def texts(folder: Path) -> dict[int, list[str]]:
    return {number: [each.text for each in of_image] for number, of_image in read_captions(folder).items()}


def places(folder: Path, small: SmallDataset) -> dict[int, str]:
    root = small.root / "images"
    return {image.image_id: Path(image.path).relative_to(root).as_posix() for image in read_images(folder)}


def test_blip_keeps_coco_ids_and_groups_captions(small: SmallDataset) -> None:
    draw(small, *[row["image"] for rows in BLIP.values() for row in rows])
    folder = build(small, "blip", BLIP)
    assert {image.image_id: image.split for image in read_images(folder)} == {
        9: "train", 136: "train", 42: "val", 73: "test",
    }  # fmt: skip
    assert texts(folder)[9] == ["A table.", "Food."] and texts(folder)[42] == ["A dog.", "A brown dog."]
    assert "keep COCO's ids" in load_json(folder / "report.json")["notes"][0]


def test_blip_in_one_file_whose_entries_name_their_splits(small: SmallDataset) -> None:
    draw(small, *[row["image"] for rows in BLIP.values() for row in rows])
    merged = [row | {"split": split} for split, rows in BLIP.items() for row in rows]
    (small.root / "merged.json").write_text(json.dumps(merged))
    apart = texts(build(small, "blip", BLIP))
    together = small.build_written(format="blip", captions=dict.fromkeys(FILES, "merged.json"))
    assert texts(together) == apart
    as_table = small.build_written(format="folder", table={"file": "merged.json"})
    assert texts(as_table) == dict(enumerate([apart[each] for each in (9, 136, 42, 73)], start=1))
    with pytest.raises(UserError, match=r"captions\.train: merged\.json has an entry of the split val"):
        small.build_written(format="blip", captions=FILES | {"train": "merged.json"})


def test_blip_of_other_pictures_is_numbered_whatever_its_ids_say(small: SmallDataset) -> None:
    """Flickr30k's training list counts from 0, its others have no ids; a folder a split may repeat a name."""
    folders = {split: f"images/{split}" for split in FILES}
    draw(small, "train/1.jpg", "train/2.jpg", "val/1.jpg", "test/1.jpg")
    files = {
        "train": [{"image": f"{each}.jpg", "caption": "A dog.", "image_id": 0} for each in (2, 1)],
        "val": [{"image": "1.jpg", "caption": ["A cat."]}],
        "test": [{"image": "1.jpg"}],
    }
    folder = build(small, "blip", files, images=folders)
    assert places(folder, small) == {1: "train/2.jpg", 2: "train/1.jpg", 3: "val/1.jpg", 4: "test/1.jpg"}
    assert texts(folder) == {1: ["A dog."], 2: ["A dog."], 3: ["A cat."]}


Change = Callable[[dict[str, list[dict[str, Any]]]], Any]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda lists: lists["train"][0].update(image_id="coco_8"),
            r"\[0\]: image_id 'coco_8' is not the id",
        ),
        (lambda lists: lists["val"][0].update(caption=[5]), r"\[0\]\.caption\[0\]: .*string \(found 5\)"),
        (lambda lists: lists["val"][0].pop("image"), r"\[0\]\.image: missing"),
        (lambda lists: lists["val"].__setitem__(0, {"url": "http://a/b.jpg", "caption": "a"}), "img2dataset"),
        (
            lambda lists: lists["val"].append(lists["train"][0]),
            r"splits overlap: the same file name .*000000000009",
        ),
        (lambda lists: lists["val"][0].pop("caption"), "images without captions: 42"),
        (lambda lists: lists.update(val={"images": []}), "the file: Input should be a valid list"),
        (lambda lists: lists.update(val='[{"caption": "A tab'), "not valid JSON: line 1, column 14"),
    ],
)
def test_blip_lists_that_cannot_be_read(small: SmallDataset, change: Change, message: str) -> None:
    lists = json.loads(json.dumps(BLIP))
    change(lists)
    with pytest.raises(UserError, match=message):
        build(small, "blip", lists)


CHALLENGER = {
    "train": [{"url": "http://a.org/1", "image_id": "8f00.jpg", "caption": ["一只小狗在跑", "小狗跑步。"]}],
    "val": [{"url": "http://a.org/2", "image_id": "9a11.jpg", "caption": ["两个人在跑"]}],
    "test": [{"image_id": "bc22.jpg"}],
}


def test_ai_challenger_goes_through_dataset_and_its_words_have_no_spaces(small: SmallDataset) -> None:
    draw(small, "8f00.jpg", "9a11.jpg", "bc22.jpg")
    for split, rows in CHALLENGER.items():
        (small.root / FILES[split]).write_text(json.dumps(rows))
    place = small.root.parent / "made" / "dataset"
    params = small.params(format="ai_challenger", captions=FILES)
    build_dataset(params, place, workers=0, segmenter="characters")
    assert texts(place) == {1: ["一只小狗在跑", "小狗跑步。"], 2: ["两个人在跑"]}
    assert read_captions(place)[1][1].tokens == list("小狗跑步")
    assert tokens_of(read_tokens(place), "train")[1] == [list("一只小狗在跑"), list("小狗跑步")]


def test_ai_challenger_lists_that_cannot_be_read(small: SmallDataset) -> None:
    draw(small, "8f00.jpg", "9a11.jpg", "bc22.jpg")
    odd = json.loads(json.dumps(CHALLENGER))
    odd["val"][0]["image_id"] = "9a11"
    with pytest.raises(UserError, match=r"\[0\]\.image_id must be the name of a picture; found '9a11'"):
        build(small, "ai_challenger", odd)
    with pytest.raises(UserError, match=r"looks like a list of dataset\.format: ai_challenger"):
        build(small, "coco", CHALLENGER)


def textcaps(image_id: str, captions: list[str], **more: Any) -> list[dict[str, Any]]:
    """An entry a caption, each with all references."""
    return [
        {"image_id": image_id, "caption_id": number, "caption_str": text, "reference_strs": captions,
         "caption_tokens": ["a"], "set_name": "train", "image_classes": ["Sign"], **more}
        for number, text in enumerate(captions)
    ]  # fmt: skip


def test_textcaps_takes_every_caption_once(small: SmallDataset) -> None:
    """Two images with all entries, one of them with a caption given twice; one that lost an entry."""
    first, twice = ["A sign.", "A red sign."], ["A can.", "A can."]
    train = [*textcaps("00ff", first), *textcaps("0abc", twice), textcaps("1e5", first)[1]]
    files = {
        "train": {"dataset_name": "textcaps", "data": train},
        "val": {"data": textcaps("777", ["A shop."])},
        "test": {"data": [{"image_id": "0e0", "set_name": "test"}]},
    }
    draw(small, "train_images/00ff.jpg", "train_images/0abc.jpg", "train_images/1e5.jpg")
    draw(small, "train_images/777.jpg", "test_images/0e0.jpg")
    folders = {split: f"images/{'test' if split == 'test' else 'train'}_images" for split in FILES}
    folder = build(small, "textcaps", files, images=folders)
    assert texts(folder) == {1: first, 2: twice, 3: ["A red sign.", "A sign."], 4: ["A shop."]}
    assert places(folder, small)[5] == "test_images/0e0.jpg"


def test_a_textcaps_image_in_two_splits(small: SmallDataset) -> None:
    files = {split: {"data": textcaps("00ff", ["A sign."])} for split in FILES}
    with pytest.raises(UserError, match="splits overlap"):
        build(small, "textcaps", files)


def narrative(dataset_id: str, image_id: str, caption: str) -> str:
    row = {"dataset_id": dataset_id, "image_id": image_id, "annotator_id": 3, "caption": caption}
    timed = [{"utterance": caption, "start_time": 0.0, "end_time": 1.0}]
    return json.dumps(row | {"timed_caption": timed, "traces": [[{"x": 0.1, "y": 0.2, "t": 0}]]})


def test_narratives_of_coco_keep_its_ids(small: SmallDataset) -> None:
    """The training set comes in several files; only LF and CRLF end a line."""
    train = (
        narrative("mscoco_train2017", "9", "In this image\u2028a table.").encode().decode("unicode_escape")
    )
    assert "\u2028" in train
    (small.root / "ln-00000-of-00002.jsonl").write_text(train + "\n", encoding="utf-8")
    (small.root / "ln-00001-of-00002.jsonl").write_text(narrative("mscoco_train2017", "9", "Food.") + "\r\n")
    draw(small, "000000000009.jpg", "000000000042.jpg", "000000000073.jpg")
    files = {
        "val": narrative("mscoco_val2017", "42", "A dog.") + "\n\n",
        "test": narrative("mscoco_val2017", "73", "A bike."),
    }
    folder = build(small, "narratives", files, captions=FILES | {"train": "ln-*.jsonl"})
    assert texts(folder) == {9: ["In this image\u2028a table.", "Food."], 42: ["A dog."], 73: ["A bike."]}
    assert places(folder, small)[9] == "000000000009.jpg"


def test_narratives_of_other_pictures_are_numbered(small: SmallDataset) -> None:
    """Ids of Flickr30k look like numbers, those of ADE20k and Open Images are names."""
    draw(small, "1000092795.jpg", "ADE_train_00000001.jpg", "000595fe6fee6369.jpg")
    files = {
        "train": narrative("Flick30k_train", "1000092795", "Two men."),
        "val": narrative("ADE20k_train", "ADE_train_00000001", "A hall."),
        "test": narrative("open_images_test", "000595fe6fee6369", "A car."),
    }
    folder = build(small, "narratives", files)
    assert places(folder, small)[2] == "ADE_train_00000001.jpg"
    assert texts(folder) == {1: ["Two men."], 2: ["A hall."], 3: ["A car."]}


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("\n{", r"train\.json, line 2 is not valid JSON"),
        ('{"dataset_id": "mscoco_train2017", "image_id": "9"}', r"line 1: caption: missing"),
        (narrative("mscoco_train2017", "nine", "A"), "line 1: image_id of mscoco_train2017 must be a number"),
    ],
)
def test_narratives_that_cannot_be_read(small: SmallDataset, train: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(small, "narratives", {"train": train})
    with pytest.raises(UserError, match=r"captions\.train: no file below .* matches 'none-\*\.jsonl'"):
        build(small, "narratives", {}, captions=FILES | {"train": "none-*.jsonl"})


@pytest.mark.parametrize(("train", "form"), [(BLIP["train"], "blip"), ({"data": []}, "textcaps")])
def test_the_format_coco_names_the_right_one(small: SmallDataset, train: Any, form: str) -> None:
    with pytest.raises(UserError, match=rf"train\.json is not a COCO caption file .*dataset\.format: {form}"):
        build(small, "coco", {"train": train})
