"""Splits text into lines; only here is it defined that a line ends with LF or CRLF and nothing else."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsgr_model.runtime.errors import UserError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LINE_END = re.compile(r"\r?\n")


def lines_of(text: str) -> list[str]:
    """The lines without their ends; a final line end adds no empty line.

    `str.splitlines` splits at eight more characters (U+2028, U+0085, form feed, ...), which captions from the
    web hold within a sentence.
    """
    lines = LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text without its end of each line that is not blank.

    Raises:
        UserError: the file is missing, cannot be read, or a line is not UTF-8 text.
    """
    with explain_if_unreadable(path, "its name"), path.open("rb") as opened:
        for number, line in enumerate(opened, start=1):
            line = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if text := _decoded(path, number, line).removesuffix("\n").removesuffix("\r"):
                yield number, text


@contextmanager
def explain_if_unreadable(path: Path, what: str) -> Iterator[None]:
    """A context for a block that reads `path`.

    If the file is missing, the message says that `what` is below dataset.root.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; {what} is below dataset.root") from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); check its location and permissions"
        ) from None


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: line {number} is not UTF-8 text (byte {error.start} of the line); save it as UTF-8"
        ) from None
