"""Reader of a folder of images with one table of captions: CSV, TSV or JSON.

CSV and TSV open with a line of column names, `image` and `caption`, and `split` if the splits are given; then
a caption a row. JSON is `{"a.jpg": ["a caption", ...]}`, or a list of `{"image": ..., "caption": ...}` with
`split` or without.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic.dataclasses import dataclass

from fsgr_model.artifacts import load_json
from fsgr_model.dataset_params import TableParams
from fsgr_model.datasets.checked_json import checked
from fsgr_model.datasets.listing import listed
from fsgr_model.datasets.normal_form import SPLITS, Split
from fsgr_model.datasets.raw_form import RawCaption, RawDataset, RawImage
from fsgr_model.errors import UserError

DELIMITERS = {".csv": ",", ".txt": ",", ".tsv": "\t"}
FIRST_ID = 1


@dataclass(slots=True)
class Row:
    """A caption of an image; `split` is None where the table names none."""

    image: str
    caption: str
    split: Literal["train", "val", "test"] | None = None


def read_table(root: Path, params: TableParams, seed: int) -> RawDataset:
    """Images are numbered as the table first names them, captions in its order, both from 1.

    Where the table names no splits, images are drawn for validation and test with `seed`.

    Raises:
        UserError: the table is missing or malformed, or gives an image two splits, or only some rows one.
    """
    path = root / params.file
    rows = list(_read_json(path) if path.suffix == ".json" else _read_lines(path))
    names = list(dict.fromkeys(row.image for row in rows))
    notes = [f"{params.file}: images and captions are numbered in its order"]
    if any(row.split for row in rows):
        split_of = _given_splits(path, rows)
    else:
        split_of = draw_splits(names, params, seed)
        notes.append(f"{params.file} names no splits: validation and test images were drawn with seed {seed}")
    number_of = {name: number for number, name in enumerate(names, FIRST_ID)}
    images = [RawImage(number_of[name], split_of[name], name, params.file) for name in names]
    captions = [
        RawCaption(number_of[row.image], number, row.caption, params.file)
        for number, row in enumerate(rows, FIRST_ID)
    ]
    return RawDataset(images, captions, notes)


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
        for image, captions in checked(value, dict[str, list[str]], path).items():
            if not captions:
                raise UserError(f"{path}: {image} has no captions; write one or remove the image")
            yield from (Row(image, caption) for caption in captions)
    else:
        yield from checked(value, list[Row], path)


def _read_lines(path: Path) -> Iterator[Row]:
    """Rows of a CSV or TSV file; a quoted caption may hold the delimiter and line breaks."""
    if path.suffix not in DELIMITERS:
        raise UserError(f"dataset.table.file: {path} must end in .json or one of {', '.join(DELIMITERS)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened, delimiter=DELIMITERS[path.suffix], strict=True)
            _check_columns(path, list(reader.fieldnames or []))
            for values in reader:
                yield _checked_row(path, reader.line_num, values)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; dataset.table.file is below dataset.root") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); check its place and permissions"
        ) from None
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.reader.line_num}: {error}; correct its quotes") from None


def _check_columns(path: Path, columns: list[str]) -> None:
    if not {"image", "caption"} <= set(columns):
        raise UserError(
            f"{path}: its first line must name the columns image and caption (and split, if you have it); "
            f"found {listed(columns) or 'nothing'}"
        )
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated:
        raise UserError(f"{path}: its first line names columns twice: {listed(repeated)}; keep one of each")


def _checked_row(path: Path, line: int, values: "dict[str | None, str | None]") -> Row:
    """The row that ends at `line`; the csv module puts surplus values under None, None for missing ones."""
    image, caption, split = values.get("image"), values.get("caption"), values.get("split") or None
    if None in values or not image or caption is None:
        raise UserError(
            f"{path}: line {line} does not have one value a column; quote captions that hold the delimiter"
        )
    if split not in (None, *SPLITS):
        raise UserError(f"{path}: line {line}: split must be {', '.join(SPLITS)}; found {split!r}")
    return Row(image, caption, split)
