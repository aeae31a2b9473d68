"""Compares the files in the folders of the pictures with those that the lists name."""

import errno
import os
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fsgr_model.datasets.picture_kinds import PICTURE_SUFFIXES, suffix_of_name
from fsgr_model.datasets.raw_form import RawDataset
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed

# How many names of pictures in no list the report shows.
SHOWN = 5


def normal_name(file_name: str) -> str:
    """One name per file: `./a//b.jpg` becomes `a/b.jpg`."""
    return posixpath.normpath(file_name)


def pictures_below(folder: Path, suffixes: frozenset[str] = PICTURE_SUFFIXES) -> Iterator[str]:
    """Names, relative to `folder` and unsorted, of the files below it whose suffix is one of `suffixes`.

    The directory listing says which names are folders, so pictures need no further system call. Names that
    begin with a dot are left out; linked folders are entered, but none twice.

    Raises:
        UserError: a folder cannot be read.
    """
    entered = {os.path.realpath(folder)}
    waiting = [(os.fspath(folder), "")]
    while waiting:
        path, start = waiting.pop()
        for entry in _entries(path):
            if suffix_of_name(entry.name) in suffixes and not entry.is_dir(follow_symlinks=False):
                yield start + entry.name
            elif _is_folder(entry) and (place := os.path.realpath(entry.path)) not in entered:
                entered.add(place)
                waiting.append((entry.path, f"{start}{entry.name}/"))


def count_read(raw: RawDataset, folder: Path, parts: Sequence[str]) -> dict[str, Any]:
    """Count for the report what the lists name and the pictures in `parts`, the folders below `folder`.

    A picture is recognised by its suffix: a common one, or one that the lists name.
    """
    read: dict[str, Any] = {"images": len(raw.images), "captions": len(raw.captions)}
    if not parts:
        return read
    named = {normal_name(image.file_name) for image in raw.images}
    suffixes = PICTURE_SUFFIXES | {suffix_of_name(name) for name in named}
    found = {
        normal_name(f"{part}/{name}")
        for part in set(parts)
        for name in pictures_below(folder / part, suffixes)
    }
    not_named = sorted(found - named)
    return read | {"pictures": len(found), "not_named": len(not_named), "first_not_named": not_named[:SHOWN]}


def described_read(read: dict[str, Any]) -> str:
    """`6 images and 12 captions in the lists; 7 pictures in the folders, 1 of them in no list: a.jpg`"""
    text = f"{read['images']} images and {read['captions']} captions in the lists"
    if "pictures" in read:
        text += f"; {read['pictures']} pictures in the folders, {read['not_named']} of them in no list"
    names = [*read.get("first_not_named", []), *(["..."] if read.get("not_named", 0) > SHOWN else [])]
    return text + (f": {listed(names)}" if names else "")


def _entries(path: str) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(path) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from None


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        # A link to itself, or into a folder without permission, cannot be entered.
        if error.errno in (errno.ELOOP, errno.EACCES, errno.EPERM) and entry.is_symlink():
            return False
        raise
