"""A good feature file that another program holds, or that lies on a file system without locks."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_store import RowFormat, RowStore, RowWriter

HOLDER = """
import h5py, sys
with h5py.File(sys.argv[1], "r+"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def features(tmp_path: Path) -> Path:
    path = tmp_path / "features.h5"
    with RowWriter(path, RowFormat("tokens", (2,), "float32"), [3, 5], {}) as writer:
        writer.write([3, 5], np.array([[1, 2], [3, 4]], dtype=np.float32))
    return path


def test_a_file_that_another_program_holds_is_told_as_such_and_stays(features: Path) -> None:
    whole = features.read_bytes()
    command = [sys.executable, "-c", HOLDER, str(features)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, encoding="utf-8", **pipes) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"held by another program.*nothing is wrong") as refusal:
            RowStore(features, {})
    assert "delete" not in str(refusal.value)
    assert features.read_bytes() == whole
    assert RowStore(features, {}).rows([5]).tolist() == [[3, 4]]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_read_all_the_same(
    features: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    whole = h5py.File

    def without_locks(path: Path, mode: str, **options: Any) -> h5py.File:
        if options.get("locking") is not False:
            raise OSError(f"unable to lock file, errno = {number}, error message = '{os.strerror(number)}'")
        return whole(path, mode, **options)

    monkeypatch.setattr(h5py, "File", without_locks)
    assert RowStore(features, {}).rows([5]).tolist() == [[3, 4]]


def test_locks_that_the_user_asks_for_and_that_are_not_there_are_told(
    features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> h5py.File:
        raise OSError(f"unable to lock file, errno = {errno.ENOLCK}, error message = 'No locks available'")

    monkeypatch.setattr(h5py, "File", never)
    with pytest.raises(UserError, match=r"has no locks.*nothing is wrong.*HDF5_USE_FILE_LOCKING=FALSE"):
        RowStore(features, {})
