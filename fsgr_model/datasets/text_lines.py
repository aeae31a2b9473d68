"""Lines of UTF-8 text files, one at a time: only LF and CRLF end a line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsgr_model.errors import UserError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Each line that is not blank, without its end, and its number from 1.

    Raises:
        UserError: the file is missing, cannot be read, or a line is not UTF-8 text.
    """
    with told_if_unreadable(path, "its name"), path.open("rb") as opened:
        for number, line in enumerate(opened, start=1):
            line = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if text := _decoded(path, number, line).removesuffix("\n").removesuffix("\r"):
                yield number, text


@contextmanager
def told_if_unreadable(path: Path, what: str) -> Iterator[None]:
    """For a block that reads `path`; `what` is below dataset.root, for the message of a missing file.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; {what} is below dataset.root") from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); check its place and permissions"
        ) from None


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: line {number} is not UTF-8 text (byte {error.start} of the line); save it as UTF-8"
        ) from None
