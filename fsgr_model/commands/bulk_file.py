"""The file of a bulk run: a line of JSON per picture, added as a whole, whatever ends the run."""

import fcntl
import hashlib
import json
import os
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from fsgr_model.commands.caption_files import tell
from fsgr_model.runtime.errors import UserError, naming_file

# How each line begins, so that no other file is taken for one that was cut short.
BEGIN = b'{"path": '
# What a picture loses if the machine, not only the command, ends at once.
SECONDS_BETWEEN_SYNCS = 10.0


class CaptionFile:
    """A file of captions that only grows, open in one run at a time; a context.

    A line that a killed run left without its end is dropped, since its picture is captioned again.

    Raises:
        UserError: another run has it open, or it holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+")
        self._synced = time.monotonic()
        try:
            with naming_file(path):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(f"another run writes to {path}; wait for it or stop it") from None
        except OSError:
            self._file.close()
            raise

    def __enter__(self) -> "CaptionFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with naming_file(self.path):
            self._file.close()

    def rows(self) -> Iterator[dict[str, Any]]:
        """The lines that are whole, one by one; what follows the last of them is dropped at the end."""
        whole = 0
        self._file.seek(0)
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n") and BEGIN[: len(line)] == line[: len(BEGIN)]:
                tell("note", f"{self.path}: line {number} was cut short; its picture is captioned again")
                break
            yield self._row(number, line)
            whole += len(line)
        self._file.truncate(whole)

    def _row(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not {"path", "caption", "model"} <= row.keys():
            raise UserError(
                f"{self.path}: line {number} is none that fsgr caption --out writes; nothing was changed; "
                "give another file, or delete that line"
            )
        return row

    def append(self, lines: Sequence[bytes]) -> None:
        """Add lines; they are safe from the end of this process at once, and of the machine in seconds."""
        with naming_file(self.path):
            self._file.write(b"".join(lines))
            self._file.flush()
            if time.monotonic() - self._synced > SECONDS_BETWEEN_SYNCS:
                self.sync()

    def sync(self) -> None:
        """Have the disk keep what was added."""
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()


def line_of(row: dict[str, Any]) -> bytes:
    """A row as a line; a name that is not UTF-8 is written with escapes, which give it back."""
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row).encode() + b"\n"


class Done:
    """Which paths have a line, at 8 bytes per path.

    They are told apart by 64 bits of a hash: of a million, one is taken for another in 1 of 30 million runs.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        keys = array("Q", map(self._key, paths))
        np.frombuffer(keys, dtype=np.uint64).sort()
        self._keys = keys

    def __contains__(self, path: Path) -> bool:
        key = self._key(str(path))
        place = bisect_left(self._keys, key)
        return place < len(self._keys) and self._keys[place] == key

    @staticmethod
    def _key(path: str) -> int:
        digest = hashlib.blake2b(path.encode(errors="surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest)


def write_beside(picture: Path, caption: str) -> bool:
    """Write a caption to the `.txt` of a picture; whether it is there. Another text is left as it is."""
    path, text = picture.with_suffix(".txt"), f"{caption}\n".encode()
    with naming_file(path), path.open("ab+") as file:
        file.seek(0)
        found = file.read(len(text) + 1)
        if not text.startswith(found):
            tell("error", f"{path}: holds another text and is left as it is; move it, or leave out --txt")
            return False
        # A killed run may have left a part of it.
        file.write(text[len(found) :])
    return True
