"""Reader of a folder of images with one table of captions: CSV, TSV or JSON.

CSV and TSV open with a line of column names, `image` and `caption`, and `split` if the splits are given; then
one caption per row. In CSV a quoted caption may hold the comma and line breaks; TSV has no quoting. JSON is
`{"a.jpg": ["a caption", ...]}`, or a list of `{"image": ..., "caption": ...}` with `split` or without;
`caption` may be a list there. Tables of published datasets have forms of their own, see `text_tables.py`.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic.dataclasses import dataclass

from fsgr_model.config.dataset_params import PerSplit, TableParams
from fsgr_model.datasets.coco_pictures import coco_id
from fsgr_model.datasets.normal_form import SPLITS, Split
from fsgr_model.datasets.picture_folders import normal_name, pictures_below
from fsgr_model.datasets.raw_form import RawCaption, RawDataset, RawImage
from fsgr_model.datasets.separated import RECORDS, Record, read_records, refuse_swallowed
from fsgr_model.datasets.text_tables import published_rows, read_split_lists, refuse_addresses
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.checked_json import Texts, checked
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed

FIRST_ID = 1


@dataclass(slots=True)
class Row:
    """A caption of an image; `split` is None if the table names none."""

    image: str
    caption: str
    split: Literal["train", "val", "test"] | None = None


@dataclass(slots=True)
class JsonEntry:
    """The captions of an image, one or a list."""

    image: str
    caption: Texts
    split: Literal["train", "val", "test"] | None = None


def read_table(root: Path, params: TableParams, seed: int, images: str | PerSplit) -> RawDataset:
    """Read a table; images are numbered by their first row, captions in its order, both from 1.

    If the table names no splits and there are no lists of them, images are drawn for validation and test
    with `seed`. `images` is the folder of the images below `root`, or one per split if tables are.

    Raises:
        UserError: the table is missing or malformed, a row swallows others, an image has two splits, or only
            some rows have one.
    """
    rows, published, notes = _all_rows(root, params, images)
    shown = ", ".join(params.files)
    if params.splits:
        rows, more = _in_lists(root, params.splits, rows)
        notes += more
    names = list(dict.fromkeys(row.image for row in rows))
    refuse_addresses(root / shown, names)
    number_of = _coco_ids(names) if published else None
    if number_of:
        numbers = "images keep COCO's ids, captions are numbered in its order"
    else:
        number_of = {name: number for number, name in enumerate(names, FIRST_ID)}
        numbers = "images and captions are numbered in its order"
    notes.insert(0, f"{shown}: {len(rows)} rows; {numbers}")
    if any(row.split for row in rows):
        split_of = _given_splits(root / shown, rows)
    else:
        split_of = draw_splits(names, params, seed)
        notes.append(f"{shown} names no splits: validation and test images were drawn with seed {seed}")
    raw_images = [RawImage(number_of[name], split_of[name], name, shown) for name in names]
    captions = [
        RawCaption(number_of[row.image], number, row.caption, shown)
        for number, row in enumerate(rows, FIRST_ID)
    ]
    return RawDataset(raw_images, captions, notes)


def _all_rows(root: Path, params: TableParams, images: str | PerSplit) -> tuple[list[Row], bool, list[str]]:
    """The rows of one table or of three, whether they are published tables, and notes."""
    if isinstance(params.file, str):
        return _rows(root / params.file, root / images if isinstance(images, str) else root)
    rows, published, notes = [], True, []
    for split in SPLITS:
        path = root / getattr(params.file, split)
        start = "" if isinstance(images, str) else f"{getattr(images, split)}/"
        of_file, is_published, more = _rows(path, root / (images if isinstance(images, str) else start))
        others = sorted({row.split for row in of_file if row.split} - {split})
        if others:
            raise UserError(
                f"{path} is dataset.table.file.{split} and has rows of the split {listed(others)}; give the "
                "table as one file, or without the column"
            )
        rows += [Row(start + row.image, row.caption, split) for row in of_file]
        published = published and is_published
        notes += more
    return rows, published, notes


def _rows(path: Path, pictures: Path) -> tuple[list[Row], bool, list[str]]:
    """Rows of one table, whether it is a published one, and notes; `pictures` is the folder of its images."""
    if (found := published_rows(path)) is not None:
        return [Row(image, caption) for image, caption in found[0]], True, found[1]
    if path.suffix == ".json":
        return list(_read_json(path)), False, []
    notes: list[str] = []
    return _read_lines(path, pictures, notes), False, notes


def _in_lists(root: Path, lists: PerSplit, rows: list[Row]) -> tuple[list[Row], list[str]]:
    """The rows of the images that the lists of file names have, each with its split, and notes."""
    if any(row.split for row in rows):
        raise UserError("dataset.table.splits: the table names splits as well; give one of the two")
    names = list(dict.fromkeys(row.image for row in rows))
    split_of, notes = read_split_lists(root, {split: getattr(lists, split) for split in SPLITS}, names)
    if left_out := len(names) - len(split_of):
        notes.append(f"left out, since no list names them: {left_out} images")
    return [Row(row.image, row.caption, split_of[row.image]) for row in rows if row.image in split_of], notes


def _coco_ids(names: list[str]) -> dict[str, int] | None:
    """COCO's id of every image, if all images are COCO's."""
    ids = {name: number for name in names if (number := coco_id(name)) is not None}
    return ids if len(ids) == len(names) else None


def draw_splits(names: list[str], params: TableParams, seed: int) -> dict[str, Split]:
    """The split of each image; at least one image for validation and one for the test, if there are three."""
    order = np.random.default_rng(seed).permutation(sorted(names)).tolist()
    val, test = (max(1, round(share * len(names))) for share in (params.val_share, params.test_share))
    split_of: dict[str, Split] = dict.fromkeys(names, "train")
    split_of.update(dict.fromkeys(order[:val], "val"))
    split_of.update(dict.fromkeys(order[val : val + test], "test"))
    return split_of


def _given_splits(path: Path, rows: list[Row]) -> dict[str, Split]:
    split_of: dict[str, Split] = {}
    for number, row in enumerate(rows, FIRST_ID):
        if row.split is None:
            raise UserError(
                f"{path}: caption {number} ({row.image}) names no split; give every row one or none"
            )
        if split_of.setdefault(row.image, row.split) != row.split:
            raise UserError(
                f"{path}: splits overlap: {row.image} is in {split_of[row.image]} and, by caption {number}, "
                f"in {row.split}; keep each image in one of {', '.join(SPLITS)}"
            )
    return split_of


def _read_json(path: Path) -> Iterator[Row]:
    value = load_json(path)
    if isinstance(value, dict):
        entries = [
            JsonEntry(image, captions)
            for image, captions in checked(value, dict[str, list[str]], path).items()
        ]
    else:
        entries = checked(value, list[JsonEntry], path)
    for entry in entries:
        if not entry.caption:
            raise UserError(f"{path}: {entry.image} has no captions; write one or remove the image")
        yield from (Row(entry.image, caption, entry.split) for caption in entry.caption)


def _read_lines(path: Path, pictures: Path, odd: list[str]) -> list[Row]:
    """Rows of a CSV or TSV file; notes about odd rows are added to `odd`."""
    if path.suffix not in RECORDS:
        raise UserError(f"dataset.table.file: {path} must end in .json or one of {', '.join(RECORDS)}")
    records = read_records(path)
    columns = records[0].values if records else []
    _check_columns(path, columns)
    rows = [_checked_row(path, columns, record) for record in records[1:]]
    if any(record.last > record.first for record in records):
        there = pictures_below(pictures) if pictures.is_dir() else ()
        names = {*map(normal_name, there), *(normal_name(row.image) for row in rows)}
        refuse_swallowed(path, records, names)
    odd.extend(_odd_rows(path, records[1:], rows))
    return rows


def _odd_rows(path: Path, records: list[Record], rows: list[Row]) -> Iterator[str]:
    """Notes about captions that another program may read differently."""
    long = [record.place for record in records if record.last > record.first]
    if long:
        yield f"{path.name}: {len(long)} of {len(rows)} rows take several lines: {listed(long)}"
    quoted = sum(len(row.caption) > 1 and row.caption[0] == row.caption[-1] == '"' for row in rows)
    if quoted and path.suffix == ".tsv":
        yield (
            f"{path.name}: {quoted} captions begin and end with a quotation mark, which belongs to them: "
            "TSV has no quoting"
        )


def _check_columns(path: Path, columns: list[str]) -> None:
    if not {"image", "caption"} <= set(columns):
        quoted = path.suffix == ".tsv" and any('"' in name for name in columns)
        raise UserError(
            f"{path}: its first line must name the columns image and caption (and split, if you have it); "
            f"found {listed(columns) or 'nothing'}"
            + ("; TSV has no quoting: write it without quotation marks, or as CSV" if quoted else "")
        )
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated:
        raise UserError(f"{path}: its first line names columns twice: {listed(repeated)}; keep one of each")


def _checked_row(path: Path, columns: list[str], record: Record) -> Row:
    values = dict(zip(columns, record.values, strict=False))
    if len(record.values) != len(columns) or not values["image"]:
        remedy = (
            "TSV has no quoting: no value may hold a tab or a line break, write such captions as CSV"
            if path.suffix == ".tsv"
            else "quote captions that hold the delimiter"
        )
        verb = "does" if record.first == record.last else "do"
        raise UserError(f"{path}: {record.place} {verb} not have one value per column; {remedy}")
    split = values.get("split") or None
    if split not in (None, *SPLITS):
        raise UserError(f"{path}: {record.place}: split must be {', '.join(SPLITS)}; found {split!r}")
    return Row(values["image"], values["caption"], split)
