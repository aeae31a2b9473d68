"""Opens HDF5 files, with or without locks, on file systems with or without them.

HDF5 locks a file that it opens: shared to read, alone to write. That fails where another program has the file
open, and on file systems without locks; nothing is wrong with the file then, and the message says so.
"""

from pathlib import Path
from typing import Literal

import h5py

from fsgr_model.runtime.errors import UserError, raise_if_refused
from fsgr_model.runtime.resources import AGAIN, HELD, NO_LOCKS, error_number

VARIABLE = "HDF5_USE_FILE_LOCKING"


def open_to_read(path: Path) -> h5py.File:
    """Open a finished file, with HDF5's lock where the file system has locks.

    Without locks it is read nevertheless: files are renamed to their place when they are whole, no stage
    writes one in place, and heads and rows have checksums.

    Raises:
        UserError: another program has it open to write, or the system does not let it be read.
        FileNotFoundError: it does not exist.
        Exception: h5py's own, for a file that is not HDF5.
    """
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if error_number(error) not in NO_LOCKS:
            _raise_if_locked(error, path)
            raise
    return _open_without_lock(path, "r")


def open_to_write(path: Path, mode: Literal["w", "r+"]) -> h5py.File:
    """Open a file in a resume folder, which has its own lock; HDF5's would outlive a killed run in workers.

    Raises: as `open_to_read`.
    """
    return _open_without_lock(path, mode)


def _open_without_lock(path: Path, mode: str) -> h5py.File:
    try:
        return h5py.File(path, mode, locking=False)
    except OSError as error:
        # The user's HDF5_USE_FILE_LOCKING overrides `locking`.
        _raise_if_locked(error, path)
        raise


def _raise_if_locked(error: OSError, path: Path) -> None:
    number = error_number(error)
    if number in HELD:
        raise UserError(
            f"{path} is held by another program, which has it open to write; nothing is wrong with the file: "
            f"end that program (`fuser -v {path}` names it) {AGAIN}, or set {VARIABLE}=FALSE to read it now"
        ) from None
    if number in NO_LOCKS:
        raise UserError(
            f"the file system of {path} has no locks, and {VARIABLE} asks for them; nothing is wrong with "
            f"the file: set {VARIABLE}=FALSE {AGAIN}"
        ) from None
    if not isinstance(error, FileNotFoundError):
        raise_if_refused(error, path)
