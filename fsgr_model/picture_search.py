"""The pictures below a folder, and a count of everything that is passed over."""

import mimetypes
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from fsgr_model.datasets.image_file import DECODING_ERRORS
from fsgr_model.datasets.listing import listed
from fsgr_model.datasets.picture_kinds import HEAD_BYTES, format_of_suffix, kind_of, means_picture

# Python's own table: what a machine adds to it must not decide what is captioned.
TYPES = mimetypes.MimeTypes()
# What cannot stand by chance at the head of another file: JPEG, PNG, GIF, TIFF, WebP, JPEG 2000, Photoshop.
MARKS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|II[*+]\0|MM\0[*+]|RIFF.{4}WEBP|\0{3}\x0cjP  |\xff\x4f\xff\x51|8BPS",
    re.DOTALL,
)
# Their marks are two letters, with which texts begin as well: they are opened.
WEAK_MARKS = ("BMP", "PPM")


@dataclass(frozen=True)
class Search:
    """Pictures sorted by path; how many files of each suffix were passed over; why folders are closed."""

    pictures: list[Path] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    closed: list[OSError] = field(default_factory=list)


def suffix_of(path: Path) -> str:
    """In lower case, and for people: a file may have none."""
    return path.suffix.lower() or "without suffix"


def counted(counts: Counter[str]) -> str:
    """`4 (.txt: 3; .mov: 1)`, the commonest first."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return f"{counts.total()} ({listed([f'{what}: {count}' for what, count in ranked])})"


def is_folder(path: Path) -> bool:
    """False, too, for a path that may not be looked at: who opens it as a file will say why."""
    try:
        return path.is_dir()
    except OSError:
        return False


def find_pictures(folder: Path) -> Search:
    """Search a folder to its bottom.

    A file whose suffix is that of pictures is one, be it broken. A file with another suffix that is known
    (.txt, .mov, .pdf) is none. Of all others, those without a suffix included, the first bytes decide. Links
    to files are followed, links to folders are not: they may lead round in a circle, or anywhere.
    """
    search = Search()
    files = list(_files(folder, search))
    with ThreadPoolExecutor() as readers:
        for path, taken in zip(files, readers.map(_is_picture, files), strict=True):
            if taken:
                search.pictures.append(path)
            else:
                search.passed_over[suffix_of(path)] += 1
    search.pictures.sort()
    return search


def _files(folder: Path, search: Search) -> Iterator[Path]:
    """Every file below a folder; what is hidden, linked or closed is counted in `search`."""
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                found = list(entries)
        except OSError as error:
            search.closed.append(error)
            continue
        for entry in found:
            if entry.name.startswith("."):
                search.passed_over["hidden"] += 1
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif entry.is_symlink() and is_folder(Path(entry.path)):
                search.passed_over["links to folders"] += 1
            else:
                yield Path(entry.path)


def _is_picture(path: Path) -> bool:
    suffix = path.suffix.lower()
    if means_picture(suffix):
        return True
    kind, packed = TYPES.guess_type(f"a{suffix}")
    known = packed or (kind and not kind.startswith("image/") and kind != "application/octet-stream")
    return not known and looks_like_picture(path)


def looks_like_picture(path: Path) -> bool:
    """Whether a file begins as a picture does, be it broken further on; True if that cannot be found out.

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
    return kind.is_picture if kind else _opens(path)


def _opens(path: Path) -> bool:
    """Whether Pillow finds a picture's size in a file, by the format of its suffix or one of a weak mark."""
    own = format_of_suffix(path.suffix.lower())
    try:
        with Image.open(path, formats=[*WEAK_MARKS, *([own] if own else [])]):
            return True
    except UnidentifiedImageError:
        return False
    except (Image.DecompressionBombError, *DECODING_ERRORS):
        return True
