"""The GPUs that a run takes of a machine with several: each is locked, so that runs at a time take others.

Two workers of DVC's queue thus get a GPU each. A lock is released with its process, so it is never stale; it
lies on the machine's own disk, and keeps out this user's other runs only.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

import torch

from fsgr_model.runtime.errors import UserError, naming_file
from fsgr_model.runtime.folder_lock import HELD

VISIBLE = "CUDA_VISIBLE_DEVICES"
SECONDS_BETWEEN_LOOKS = 1.0


@contextmanager
def taken_gpus(asked: int | Literal["auto"]) -> Iterator[int]:
    """Take as many GPUs as are asked for, or all that are free, at least one; wait until there are so many.

    Yields how many; 0 where the machine has none. Nothing is locked where it has one alone. A single one is
    that of this process; processes that share several see no others.

    Raises:
        UserError: the machine has fewer.
    """
    names = _names()
    if asked != "auto":
        refuse_more_than_gpus(asked, gpus=len(names))
    if len(names) < 2:
        yield len(names)
        return
    locks = _take(names, asked)
    print(f"takes GPU {', '.join(locks)} of {', '.join(names)}", flush=True)
    if len(locks) == 1:
        # This process may have read the variable already.
        torch.cuda.set_device(names.index(next(iter(locks))))
    else:
        os.environ[VISIBLE] = ",".join(locks)
    try:
        yield len(locks)
    finally:
        for lock in locks.values():
            lock.close()


def refuse_more_than_gpus(processes: int, *, gpus: int) -> None:
    """Refuse more processes than there are GPUs, where there are any.

    Raises:
        UserError: there are more.
    """
    if gpus and processes > gpus:
        raise UserError(
            f"runtime.processes is {processes}, but this machine has {gpus} GPUs and each process takes one; "
            "set it to auto"
        )


def _names() -> list[str]:
    """The GPUs that this process sees, by the names that CUDA has for them."""
    given = os.environ.get(VISIBLE)
    count = torch.cuda.device_count()
    return given.split(",")[:count] if given else [str(index) for index in range(count)]


def _take(names: list[str], asked: int | Literal["auto"]) -> dict[str, IO[str]]:
    wanted, needed = (len(names), 1) if asked == "auto" else (asked, asked)
    told = False
    while True:
        locks: dict[str, IO[str]] = {}
        for name in names:
            lock = _locked(name) if len(locks) < wanted else None
            if lock is not None:
                locks[name] = lock
        if len(locks) >= needed:
            return locks
        # Two runs that each hold a part would wait for each other.
        for lock in locks.values():
            lock.close()
        if not told:
            free = f"{len(locks)} of {len(names)} GPUs are free"
            print(f"{free}, this stage needs {needed}; waiting for other runs of yours to end", flush=True)
            told = True
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _locked(name: str) -> IO[str] | None:
    """The lock of a GPU; None if another run has it."""
    path = Path(tempfile.gettempdir()) / f"fsgr-{os.getuid()}-gpu-{name}.lock"
    with naming_file(path):
        # No link is followed, since other users may write to the same folder.
        lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
    # Workers that outlive this process do not keep it.
    HELD.add(lock)
    return lock
