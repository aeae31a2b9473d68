"""The pictures below a folder, and a count of everything that is skipped."""

import mimetypes
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from PIL import Image

from fsgr_model.datasets.image_file import DECODING_ERRORS
from fsgr_model.datasets.picture_kinds import HEAD_BYTES, format_of_suffix, kind_of, means_picture
from fsgr_model.runtime.listing import listed

# Only Python's own table: additions of a machine must not decide what is captioned.
TYPES = mimetypes.MimeTypes()
# First bytes that no other file has by chance: JPEG, PNG, GIF, TIFF, WebP, JPEG 2000, Photoshop.
MARKS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|II[*+]\0|MM\0[*+]|RIFF.{4}WEBP|\0{3}\x0cjP  |\xff\x4f\xff\x51|8BPS",
    re.DOTALL,
)
# Texts may also begin with the first bytes of these two formats, so such files are opened.
WEAK_MARKS = {"BMP": b"BM", "PPM": b"P"}


@dataclass(frozen=True)
class Search:
    """Pictures sorted by path; how many files of each suffix were skipped; why folders could not be read."""

    pictures: list[Path] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    closed: list[OSError] = field(default_factory=list)


def suffix_of(path: Path) -> str:
    """The suffix in lower case, or a description if a file has none."""
    return path.suffix.lower() or "without suffix"


def counted(counts: Counter[str]) -> str:
    """`4 (.txt: 3; .mov: 1)`, the most frequent first."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return f"{counts.total()} ({listed([f'{what}: {count}' for what, count in ranked])})"


def is_folder(path: Path) -> bool:
    """It is also False for a path without permission: opening it as a file will give the reason."""
    try:
        return path.is_dir()
    except OSError:
        return False


def find_pictures(folder: Path) -> Search:
    """Search a folder and all folders below it.

    A file with a suffix of pictures is a picture, even if it is broken. A file with another known suffix
    (.txt, .mov, .pdf) is not. For all others, also those without a suffix, the first bytes decide. Links to
    files are followed, links to folders are not: they may lead in a circle, or anywhere.
    """
    search = Search()
    search.pictures.extend(sorted(pictures_below(folder, search)))
    return search


def pictures_below(folder: Path, search: Search) -> Iterator[Path]:
    """The pictures that `find_pictures` finds, one by one as the system names them, in constant memory.

    What is skipped, and why folders could not be read, is added to `search` meanwhile; pictures are not.
    """
    for path in _files(folder, search):
        by_name = _picture_by_name(path.suffix)
        if by_name or (by_name is None and looks_like_picture(path)):
            yield path
        else:
            search.passed_over[suffix_of(path)] += 1


def _entries(folder: Path, search: Search) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        search.closed.append(error)


def _files(folder: Path, search: Search) -> Iterator[Path]:
    """Every file below a folder; hidden, linked and unreadable ones are counted in `search`."""
    waiting = [folder]
    while waiting:
        for entry in _entries(waiting.pop(), search):
            if entry.name.startswith("."):
                search.passed_over["hidden"] += 1
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif entry.is_symlink() and is_folder(Path(entry.path)):
                search.passed_over["links to folders"] += 1
            else:
                yield Path(entry.path)


@cache
def _picture_by_name(suffix: str) -> bool | None:
    """Whether a suffix means a picture; None if that is not certain."""
    if means_picture(suffix.lower()):
        return True
    kind, packed = TYPES.guess_type(f"a{suffix.lower()}")
    known = packed or (kind and not kind.startswith("image/") and kind != "application/octet-stream")
    return False if known else None


def looks_like_picture(path: Path) -> bool:
    """Whether a file begins like a picture, even if it is broken later on; True if it cannot be read.

    Pipes and devices are not opened: reading them may never end.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return True
    if MARKS.match(head):
        return True
    kind = kind_of(head, "")
    if kind is not None:
        return kind.is_picture
    possible = [name for name, mark in WEAK_MARKS.items() if head.startswith(mark)]
    own = format_of_suffix(path.suffix.lower())
    return bool(own or possible) and _opens(path, [*possible, own] if own else possible)


def _opens(path: Path, formats: list[str]) -> bool:
    """Whether Pillow finds a picture's size in a file, by one of these formats."""
    try:
        with Image.open(path, formats=formats):
            return True
    except Image.DecompressionBombError:
        return True
    except DECODING_ERRORS as error:
        # Pillow's own errors have no number; after a system error the question stays open.
        return isinstance(error, OSError) and error.errno is not None
