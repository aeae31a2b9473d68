"""A folder of images with one table of captions, as CSV, TSV and JSON."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fsgr_model.config.dataset_params import TableParams
from fsgr_model.datasets.normal_form import read_captions, read_images
from fsgr_model.datasets.table import draw_splits
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError
from tests.worlds.small_dataset import IMAGE_IDS, SmallDataset

SPLIT_OF = {f"{number}.png": split for split, numbers in IMAGE_IDS.items() for number in numbers}
CAPTIONS = {name: [f'A "big" dog, of {name}.', "Two\nlines"] for name in SPLIT_OF}


def build(small: SmallDataset, name: str, content: str, **table: Any) -> Path:
    (small.root / name).write_text(content, encoding="utf-8")
    return small.build_written(format="folder", table={"file": name, **table})


def lines(delimiter: str) -> str:
    """Columns in another order, one more than is read, quotes as spreadsheets write them."""
    rows = [delimiter.join(["split", "caption", "image", "score"])]
    for name, captions in CAPTIONS.items():
        for caption in captions:
            quoted = '"' + caption.replace('"', '""') + '"'
            rows.append(delimiter.join([SPLIT_OF[name], quoted, name, "1"]))
    return "\n".join(rows) + "\n"


def rows_as_json() -> str:
    rows = [
        {"image": name, "caption": caption, "split": SPLIT_OF[name]}
        for name, captions in CAPTIONS.items()
        for caption in captions
    ]
    return json.dumps(rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("captions.csv", lines(",")),
        ("captions.csv", "\ufeff" + lines(",").replace("\n", "\r\n").replace("Two\r\n", "Two\n")),
        ("captions.txt", lines(",")),
        ("captions.json", rows_as_json()),
    ],
    ids=["csv", "csv of a spreadsheet", "txt", "json"],
)
def test_every_form_says_the_same(small: SmallDataset, name: str, content: str) -> None:
    folder = build(small, name, content)
    images = read_images(folder)
    assert {Path(image.path).name: image.split for image in images} == SPLIT_OF
    assert [image.image_id for image in images] == [1, 2, 3, 4, 5, 6]
    captions = read_captions(folder)
    assert [caption.annotation_id for caption in captions[2]] == [3, 4]
    assert [caption.text for caption in captions[2]] == CAPTIONS["12.png"]


def test_tsv_has_no_quoting(small: SmallDataset) -> None:
    """A caption that begins with a quotation mark and a later one that ends with one are two captions."""
    texts = [*(f"a thing, of {name}" for name in SPLIT_OF)]
    texts[1], texts[4] = '"Stop" says the sign', 'a sign that says "stop"'
    texts[2] = '"a whole caption"'
    rows = [f"{name}\t{text}\t{SPLIT_OF[name]}" for name, text in zip(SPLIT_OF, texts, strict=True)]
    folder = build(small, "captions.tsv", "\n".join(["image\tcaption\tsplit", *rows]) + "\n")
    captions = read_captions(folder)
    assert [captions[number][0].text for number in range(1, 7)] == texts
    report = load_json(folder / "report.json")
    assert any("1 captions begin and end with a quotation mark" in note for note in report["notes"])


def test_a_row_that_holds_others_is_refused_with_its_lines(small: SmallDataset) -> None:
    rows = [f"{name},a thing,{SPLIT_OF[name]}" for name in SPLIT_OF]
    rows[1] = rows[1].replace("a thing", '"a thing')
    rows[4] = rows[4].replace("a thing", 'a thing"')
    with pytest.raises(UserError, match=r"rows that hold other rows.*lines 3 to 6|line 3.*quot"):
        build(small, "captions.csv", "\n".join(["image,caption,split", *rows]) + "\n")
    assert not (small.root.parent / "made" / "dataset").exists()


def test_pictures_that_no_row_names_are_counted_and_named(small: SmallDataset) -> None:
    (small.root / "images" / "extra.png").write_bytes((small.root / "images" / "11.png").read_bytes())
    read = load_json(build(small, "captions.csv", lines(",")) / "report.json")["read"]
    assert (read["images"], read["captions"], read["pictures"], read["not_named"]) == (6, 12, 7, 1)
    assert read["first_not_named"] == ["extra.png"]


def test_without_splits_they_are_drawn_with_the_seed(small: SmallDataset) -> None:
    content = json.dumps(CAPTIONS)
    folder = build(small, "captions.json", content, val_share=0.3, test_share=0.2)
    splits = {Path(image.path).name: image.split for image in read_images(folder)}
    assert Counter(splits.values()) == {"train": 3, "val": 2, "test": 1}
    assert "drawn with seed 42" in load_json(folder / "report.json")["notes"][1]
    reversed_table = json.dumps(dict(reversed(CAPTIONS.items())))
    again = build(small, "captions.json", reversed_table, val_share=0.3, test_share=0.2)
    assert {Path(image.path).name: image.split for image in read_images(again)} == splits


def test_another_seed_draws_others_in_the_same_numbers() -> None:
    names = [f"{number}.jpg" for number in range(200)]
    params = TableParams(file="captions.csv")
    drawn = [draw_splits(names, params, seed) for seed in (0, 1)]
    assert drawn[0] != drawn[1]
    assert all(Counter(each.values()) == {"train": 160, "val": 20, "test": 20} for each in drawn)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "file,text\n11.png,A dog.\n", r"a\.csv: its first line must name .*found file; text"),
        ("a.csv", "", r"a\.csv: its first line must name .*found nothing"),
        (
            "a.csv",
            "image,caption\n11.png,A dog.\n12.png,A dog, a cat.\n",
            r"line 3 does not have one value",
        ),
        ("a.csv", "image,caption\n11.png\n", r"line 2 does not have one value"),
        ("a.csv", "image,caption\n,A dog.\n", r"line 2 does not have one value"),
        ("a.csv", 'image,caption\n11.png,"A dog.\n', r"a\.csv: line 2: .*; correct its quotes"),
        (
            "a.csv",
            "image,caption,split\n11.png,A dog.,dev\n",
            "line 2: split must be train, val, test",
        ),
        ("a.csv", "image,caption,split\n11.png,A,val\n12.png,B,\n", r"caption 2 \(12\.png\) names no split"),
        (
            "a.csv",
            "image,caption,split\n1.png,A,val\n1.png,B,test\n",
            "1.png is in val and, by caption 2",
        ),
        ("a.csv", "image,caption\n11.png,...\n12.png,A\n13.png,A\n", "captions without a word: annotation 1"),
        ("a.csv", "image,caption\n../11.png,A\n12.png,A\n13.png,A\n", "file names must be relative"),
        ("a.json", '{"11.png": []}', r"a\.json: 11\.png has no captions"),
        ("a.json", '{"11.png": "A dog."}', r"a\.json: 11\.png: Input should be a valid list"),
        ("a.json", '[{"image": "11.png"}]', r"a\.json: \[0\]\.caption: missing"),
        ("a.json", '[{"image": "1", "caption": "A", "split": "dev"}]', r"\[0\]\.split: .* \(found 'dev'\)"),
        ("a.xlsx", "", r"a\.xlsx must end in \.json or one of \.csv"),
    ],
)
def test_a_table_that_cannot_be_read(small: SmallDataset, name: str, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(small, name, content)


def test_a_table_that_is_no_text(small: SmallDataset) -> None:
    (small.root / "a.csv").write_bytes("image,caption\n11.png,Café".encode("latin-1"))
    with pytest.raises(UserError, match=r"a\.csv is not UTF-8 text"):
        small.build_written(format="folder", table={"file": "a.csv"})
    with pytest.raises(UserError, match=r"b\.csv does not exist; dataset\.table\.file is below"):
        small.build_written(format="folder", table={"file": "b.csv"})


def test_shares_leave_something_to_train_on() -> None:
    with pytest.raises(ValidationError, match=r"val_share 0\.5 and test_share 0\.5 leave no training images"):
        TableParams(file="a.csv", val_share=0.5, test_share=0.5)
