"""Records of CSV (RFC 4180) and TSV files (IANA's text/tab-separated-values).

In CSV a value in quotation marks may hold the comma and line breaks, and `""` is a quotation mark. TSV has no
quoting: a quotation mark is part of its value, and no value holds a tab or a line break. Lines end with LF or
CRLF.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from fsgr_model.datasets.picture_folders import normal_name
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed
from fsgr_model.text.lines import explain_if_unreadable


@dataclass(frozen=True, slots=True)
class Record:
    """The values of the lines `first` to `last` of a file, counted from 1."""

    first: int
    last: int
    values: list[str]

    @property
    def place(self) -> str:
        return _place(self.first, self.last)


def csv_records(opened: TextIO, path: Path) -> Iterator[Record]:
    """Records of a CSV file; empty lines are skipped.

    Raises:
        UserError: a quotation mark is not closed, or a value continues after the closing one.
    """
    reader = csv.reader(opened, strict=True)
    last = 0
    try:
        for values in reader:
            first, last = last + 1, reader.line_num
            if values:
                yield Record(first, last, values)
    except csv.Error as error:
        place = _place(last + 1, reader.line_num)
        raise UserError(f"{path}: {place}: {_reason(str(error), last + 1)}; correct its quotes") from None


def tsv_records(opened: TextIO, path: Path) -> Iterator[Record]:
    """Records of a TSV file, one per line; empty lines are skipped."""
    for number, line in enumerate(opened, start=1):
        text = line.removesuffix("\n").removesuffix("\r")
        if text:
            yield Record(number, number, text.split("\t"))


RECORDS: dict[str, Callable[[TextIO, Path], Iterator[Record]]] = {
    ".csv": csv_records,
    ".txt": csv_records,
    ".tsv": tsv_records,
}


def read_records(path: Path) -> list[Record]:
    """All records of a file, read as its suffix says (one of RECORDS).

    Raises:
        UserError: the file is missing, is not UTF-8, ends lines with CR alone, or `csv_records` refuses it.
    """
    try:
        # Other values of `newline` would also end lines at a CR alone.
        with (
            explain_if_unreadable(path, "dataset.table.file"),
            path.open(encoding="utf-8-sig", newline="\n") as opened,
        ):
            _check_line_ends(path, opened)
            return list(RECORDS[path.suffix](opened, path))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _check_line_ends(path: Path, opened: TextIO) -> None:
    """Refuse a file whose first line has a CR without LF, since that line would be the whole file."""
    first = opened.readline()
    opened.seek(0)
    if "\r" in first.removesuffix("\n").removesuffix("\r"):
        raise UserError(f"{path} ends its lines with CR alone; save it with LF or CRLF")


def _reason(said: str, first: int) -> str:
    """The message of the csv module, in terms of the file."""
    if "unexpected end" in said or "larger than field limit" in said:
        return f"a quotation mark that opens in the row of line {first} is not closed ({said})"
    if "new-line character" in said:
        return "a CR without LF does not end a line"
    return said


def refuse_swallowed(path: Path, records: list[Record], pictures: set[str]) -> None:
    """Refuse records that swallowed others: a value of several lines that names a picture as a row does.

    A quotation mark that is part of a caption opens a value, and one in a later caption closes it; all rows
    between them are then text of one caption, and the file is still valid CSV.

    Args:
        pictures: names of the pictures, as `normal_name` writes them.

    Raises:
        UserError: the message has the lines of all such records.
    """
    found = [
        f"{record.place} (with {name})"
        for record in records
        if record.last > record.first and (name := _name_within(record, pictures))
    ]
    if found:
        raise UserError(
            f"{path}: rows that hold other rows, between a quotation mark and the next: {listed(found)}; "
            'write a quotation mark of a caption as "", and the caption in quotation marks'
        )


def _name_within(record: Record, pictures: set[str]) -> str | None:
    """The first picture that is named between commas in a value of several lines."""
    lines = [line for value in record.values if "\n" in value for line in value.split("\n")]
    fields = [field.strip(' \t\r"') for line in lines if "," in line for field in line.split(",")]
    return next((field for field in fields if field and normal_name(field) in pictures), None)


def _place(first: int, last: int) -> str:
    return f"line {first}" if first >= last else f"lines {first} to {last}"
