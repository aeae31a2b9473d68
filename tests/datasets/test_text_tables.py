"""Tables of Flickr8k, Flickr30k and Conceptual Captions, as they are published; fixtures of our own."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fsgr_model.config.dataset_params import TableParams
from fsgr_model.datasets.normal_form import read_captions, read_images
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError
from tests.worlds.small_dataset import FILES, IMAGE_IDS, SmallDataset, draw_noise

NAMES = [f"{number}.png" for numbers in IMAGE_IDS.values() for number in numbers]
SPLIT_OF = {f"{number}.png": split for split, numbers in IMAGE_IDS.items() for number in numbers}
CAPTIONS = {name: [f'A "red dog , {name} .', "A dog's | bar , 1"] for name in NAMES}
LISTS = {split: f"Small.{split}Images.txt" for split in IMAGE_IDS}


def write_lists(small: SmallDataset, suffix: str = ".png", end: str = "\n") -> None:
    for split, numbers in IMAGE_IDS.items():
        names = [f"{number}{suffix}" for number in numbers]
        (small.root / LISTS[split]).write_text(end.join(names) + end, newline="")


def build(small: SmallDataset, name: str, rows: list[str], **changes: Any) -> Path:
    (small.root / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    table = {"file": name} | changes.pop("table", {})
    return small.build_written(format="folder", table=table, **changes)


def texts(folder: Path) -> dict[str, list[str]]:
    captions = read_captions(folder)
    return {
        Path(image.path).name: [each.text for each in captions[image.image_id]]
        for image in read_images(folder)
    }


def token_rows(mark: str = "#", between: str = "\t") -> list[str]:
    return [
        f"{name}{mark}{number}{between}{caption}"
        for name, captions in CAPTIONS.items()
        for number, caption in enumerate(captions)
    ]


RESULT_ROWS = [
    f"{name}| {number}| {caption}"
    for name, captions in CAPTIONS.items()
    for number, caption in enumerate(captions)
]
HEADER = "image_name| comment_number| comment"


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("Flickr8k.token.txt", token_rows()),
        ("results_20130124.token", token_rows()),
        ("flickr8kcn.txt", token_rows("#enc#", " ")),
        ("results.csv", [HEADER, *RESULT_ROWS]),
        ("with_marks.csv", ["\ufeff" + HEADER + "\r", *[row + "\r" for row in RESULT_ROWS]]),
    ],
)
@pytest.mark.parametrize(("suffix", "end"), [(".png", "\n"), ("", "\r\n")], ids=["names", "bare names"])
def test_flickr_with_its_lists(
    small: SmallDataset, name: str, rows: list[str], suffix: str, end: str
) -> None:
    write_lists(small, suffix, end)
    folder = build(small, name, rows, table={"splits": LISTS})
    assert {Path(image.path).name: image.split for image in read_images(folder)} == SPLIT_OF
    assert texts(folder) == CAPTIONS
    assert [image.image_id for image in read_images(folder)] == [1, 2, 3, 4, 5, 6]


def test_what_no_list_names_is_left_out_and_told(small: SmallDataset) -> None:
    """Flickr8k has 8,092 images and lists 8,000; a list may name more than a part of the table has."""
    write_lists(small)
    with (small.root / LISTS["train"]).open("a") as opened:
        opened.write("99.png\n")
    rows = [*token_rows(), "2258277193.jpg.1#0\tA picture that is nowhere ."]
    folder = build(small, "Flickr8k.token.txt", rows, table={"splits": LISTS})
    assert len(read_images(folder)) == 6
    notes = " ".join(load_json(folder / "report.json")["notes"])
    assert "13 captions read" in notes and "left out, since no list names them: 1 images" in notes
    assert "Small.trainImages.txt: 5 images, 1 of them not in the table" in notes


def test_the_line_of_results_that_lacks_a_bar(small: SmallDataset) -> None:
    rows = [HEADER, *RESULT_ROWS, "31.png| 4   A dog runs across the grass ."]
    folder = build(small, "results.csv", rows)
    assert texts(folder)["31.png"][-1] == "A dog runs across the grass ."
    assert "lines that lack a bar, read without it: 14" in " ".join(
        load_json(folder / "report.json")["notes"]
    )


def test_without_lists_splits_are_drawn(small: SmallDataset) -> None:
    folder = build(small, "results_20130124.token", token_rows())
    assert {image.split for image in read_images(folder)} == {"train", "val", "test"}


def test_names_of_coco_keep_its_ids(small: SmallDataset) -> None:
    """COCO-CN has the form of Flickr8k, and names without a suffix; the pictures lie in COCO's folders."""
    (small.root / "images" / "val2014").mkdir()
    rows = []
    for number in (139, 285, 632):
        draw_noise(small.root / "images" / "val2014" / f"COCO_val2014_{number:012}.jpg", number)
        rows.append(f"COCO_val2014_{number:012}#0\t一只狗")
    folder = build(small, "coco-cn.txt", rows)
    assert [image.image_id for image in read_images(folder)] == [139, 285, 632]


@pytest.mark.parametrize("row", ["{}#zhc#{} {}", "{}.jpg#zhc#{}\t{}"])
def test_flickr8k_cn_in_both_of_its_forms(small: SmallDataset, row: str) -> None:
    for number in (1, 2, 3):
        draw_noise(small.root / "images" / f"100_{number}.jpg", number)
    rows = [row.format(f"100_{number}", place, "一只 狗") for number in (1, 2, 3) for place in (0, 1)]
    folder = build(small, "flickr8kzhc.caption.txt", rows)
    assert {len(texts) for texts in read_captions(folder).values()} == {2}
    assert read_captions(folder)[1][0].text == "一只 狗"


GCC = [(caption, name) for name, captions in CAPTIONS.items() for caption in captions]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("Train_GCC.tsv", [f"{caption}\t{name}" for caption, name in GCC]),
        ("name_first.tsv", [f"{name}\t{caption}" for caption, name in GCC]),
        ("with_address.tsv", [f"{caption}\thttp://a.org/b.jpg\t{name}" for caption, name in GCC]),
        ("open_clip.csv", ["title\tfilepath", *[f"{caption}\t{name}" for caption, name in GCC]]),
    ],
)
def test_conceptual_captions_once_downloaded(small: SmallDataset, name: str, rows: list[str]) -> None:
    assert texts(build(small, name, rows)) == CAPTIONS


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("Train_GCC-training.tsv", ["a dog\thttp://a.org/b.jpg"]),
        ("cc12m.tsv", ["https://a.org/b\ta dog"]),
        ("headed.tsv", ["caption\turl", "a dog\thttp://a.org/b.jpg"]),
        ("laion.csv", ["image_url,caption", "http://a.org/b.jpg,a dog"]),
        ("ours.tsv", ["image\tcaption", "http://a.org/b.jpg\ta dog"]),
        ("ours.json", ['[{"image": "https://a.org/b.jpg", "caption": "a dog"}]']),
    ],
)
def test_addresses_are_no_pictures(small: SmallDataset, name: str, rows: list[str]) -> None:
    with pytest.raises(UserError, match=f"{name} has addresses .* `img2dataset .*format: webdataset"):
        build(small, name, rows)


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("t.token", ["11.png#0\tA dog .", "12.png A dog ."], r"t\.token: line 2 is not .*12\.png A dog"),
        ("r.csv", [HEADER, "11.png| A dog"], r"r\.csv: line 2 is not `image\.jpg\| 0\| caption`"),
        (
            "g.tsv",
            ["A dog\t11.png", "A dog"],
            r"g\.tsv: line 2 is not `2 columns with a picture in column 2`",
        ),
        ("g.tsv", ["A dog\t11.png", "A dog\t"], r"g\.tsv: line 2 is not"),
        ("t.token", ["11.png#0\tA dog .", "11.png#1\t..."], "captions without a word: annotation 2"),
        ("odd.tsv", ["A dog\tA cat"], "its first line must name the columns image and caption"),
    ],
)
def test_lines_of_another_form(small: SmallDataset, name: str, rows: list[str], message: str) -> None:
    three = [row.replace("11.png", other) for other in ("13.png", "14.png") for row in rows[:1]]
    with pytest.raises(UserError, match=message):
        build(small, name, rows + (three if "word" in message else []))


def test_a_table_that_is_no_text_in_the_middle(small: SmallDataset) -> None:
    (small.root / "t.token").write_bytes(b"11.png#0\tA dog\n12.png#0\tCaf\xe9\n")
    with pytest.raises(UserError, match=r"t\.token: line 2 is not UTF-8 text \(byte 12 of the line\)"):
        small.build_written(format="folder", table={"file": "t.token"})


def test_a_table_and_a_folder_a_split(small: SmallDataset) -> None:
    """The same name in two folders is two pictures."""
    for split in FILES:
        (small.root / split).mkdir()
        draw_noise(small.root / split / "0.jpg", len(split))
        (small.root / f"{split}.tsv").write_text(f"a dog in {split}\t0.jpg\n")
    files = {split: f"{split}.tsv" for split in FILES}
    folders = {split: split for split in FILES}
    folder = small.build_written(format="folder", table={"file": files}, images=folders)
    assert [image.split for image in read_images(folder)] == ["train", "val", "test"]
    assert read_captions(folder)[2][0].text == "a dog in val"
    with pytest.raises(UserError, match=r"splits overlap: 0\.jpg is in train and, by caption 2, in val"):
        small.build_written(format="folder", table={"file": files}, images=".")


def test_splits_twice(small: SmallDataset) -> None:
    with pytest.raises(ValidationError, match=r"with one file per split table\.splits is not needed"):
        TableParams.model_validate({"file": FILES, "splits": LISTS})
    write_lists(small)
    rows = ["image,caption,split", *[f"{name},A dog,{split}" for name, split in SPLIT_OF.items()]]
    with pytest.raises(UserError, match="the table names splits as well"):
        build(small, "t.csv", rows, table={"splits": LISTS})
    with pytest.raises(UserError, match=r"table\.file\.train and has rows of the split test; val"):
        build(small, "t.csv", rows, table={"file": dict.fromkeys(FILES, "t.csv")})
    (small.root / LISTS["val"]).write_text("11\n")
    with pytest.raises(UserError, match=r"11\.png is in the lists of train and val"):
        build(small, "t.token", token_rows(), table={"splits": LISTS})
