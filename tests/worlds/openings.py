"""Which files a piece of the program opens to read, and how often: asked of Python and of the libraries."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import pytest
import safetensors.torch

from fsgr_model.runtime import tensor_file

Opened = Counter[str]
LISTENING: list["_Listener"] = []


class _Listener:
    """Counts the openings of the files that are below `root` now, by their path from there."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.files = {path for path in self.root.rglob("*") if path.is_file()}
        self.found: Opened = Counter()

    def hear(self, path: Path) -> None:
        whole = path.resolve()
        if whole in self.files:
            self.found[str(whole.relative_to(self.root))] += 1


def _hook(event: str, given: tuple[Any, ...]) -> None:
    """Python's report of what it opens; one of a descriptor, or to write, is not counted."""
    if event == "open" and LISTENING and isinstance(given[0], str | os.PathLike):
        _, mode, flags = given
        if not set(mode or "") & set("wax+") and not flags & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY):
            for listener in LISTENING:
                listener.hear(Path(given[0]))


sys.addaudithook(_hook)  # it stays until the interpreter ends, and is idle where nobody listens


@contextmanager
def openings(root: Path) -> Iterator[Opened]:
    """Within this context the openings of the files that are below `root` already are counted.

    HDF5 and safetensors open files past Python, and are listened to by themselves.
    """
    listener = _Listener(root)
    plain = h5py.File.__init__

    def open_hdf5(self: h5py.File, name: Any, *arguments: Any, **named: Any) -> None:
        if isinstance(name, str | os.PathLike):  # HDF5 makes such objects of open files, too
            listener.hear(Path(name))
        plain(self, name, *arguments, **named)

    def heard(function: Any) -> Any:
        def call(path: Any, *arguments: Any, **named: Any) -> Any:
            listener.hear(Path(path))
            return function(path, *arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(h5py.File, "__init__", open_hdf5)
        for module in (tensor_file, safetensors.torch):  # the latter for `load_file`
            patch.setattr(module, "safe_open", heard(module.safe_open))
        LISTENING.append(listener)
        try:
            yield listener.found
        finally:
            LISTENING.remove(listener)
