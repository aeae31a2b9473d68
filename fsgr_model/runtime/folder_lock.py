"""Allow one run at a time in a folder, also where the file system has no locks.

As a rule this is a system lock (flock), which is released with its process and so is never stale. Lustre
mounted without `-o flock`, NFS without its lock service and some other file systems have no locks. There a
file in the folder names the process that owns it. This file outlives a process that is killed, so it also
names a lock on this machine's own disk: whoever gets that lock knows that the process is gone. An owner file
from another machine is taken as valid.
"""

import errno
import fcntl
import hashlib
import os
import platform
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

from fsgr_model.runtime.errors import UserError, naming_file
from fsgr_model.runtime.resources import AGAIN, NO_LOCKS

LOCK, OWNER = "lock", "owner"
# How often the folder may vanish while it is opened: runs delete it when they end.
ATTEMPTS = 100
SECONDS_BETWEEN_LOOKS = 1.0
HELD: weakref.WeakSet[IO[str]] = weakref.WeakSet()


def _release_locks() -> None:
    """Release the locks in a worker: it may outlive its killed parent for some seconds."""
    for lock in list(HELD):
        lock.close()


os.register_at_fork(after_in_child=_release_locks)


def locked(folder: Path, wait: bool) -> AbstractContextManager[object]:
    """Create and lock the folder until the block ends; if another process has the lock, `wait` or be refused.

    Raises:
        UserError: another process has it and `wait` is false, no file system here has locks, or the folder
            does not stay.
    """
    for _ in range(ATTEMPTS):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = (folder / LOCK).open("a+", encoding="utf-8")
        except FileNotFoundError:
            # The run that was under way has just deleted the folder.
            continue
        HELD.add(lock)
        try:
            with naming_file(folder / LOCK):
                _flock(lock, folder, wait)
        except OSError as error:
            lock.close()
            if error.errno not in NO_LOCKS:
                raise
            return _owned(folder, wait)
        with naming_file(folder / LOCK):
            if _is_file(lock, folder / LOCK):
                _overwrite(lock, str(os.getpid()))
                return lock
        # The lock that was waited for is gone with its folder.
        lock.close()
    raise _deleted_again(folder)


def _deleted_again(folder: Path) -> UserError:
    return UserError(
        f"{folder} is deleted again and again while it is opened; find the program that deletes it, {AGAIN}"
    )


def _flock(lock: IO[str], folder: Path, wait: bool) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        _refuse_or_tell(f"process {lock.read().strip() or '?'} ({folder})", lock, wait)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _refuse_or_tell(where: str, lock: IO[str], wait: bool) -> None:
    if not wait:
        lock.close()
        raise UserError(f"this same run is already under way in {where}; wait for it or stop it") from None
    print(f"another experiment runs this same stage in {where}; waiting for it", flush=True)


def _is_file(opened: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _overwrite(opened: IO[str], text: str) -> None:
    opened.seek(0)
    opened.truncate()
    opened.write(text)
    opened.flush()


@contextmanager
def _owned(folder: Path, wait: bool) -> Iterator[None]:
    """Lock as `locked` does, with a file that names its owner."""
    print(f"note: the file system of {folder} has no locks; a file in it keeps other runs out", flush=True)
    with _lock_of_machine(folder, wait) as local:
        with naming_file(folder):
            facts = os.fstat(local.fileno())
        place = f"on {platform.node()} (lock {facts.st_dev}:{facts.st_ino})"
        mine = f"process {os.getpid()} {place}"
        owner = folder / OWNER
        vanished = 0
        while not _taken(owner, mine, place):
            vanished += not _waited_for(owner, wait)
            if vanished > ATTEMPTS:
                raise _deleted_again(folder)
        try:
            yield
        finally:
            if owner.exists() and owner.read_text(encoding="utf-8") == mine:
                owner.unlink()


def _lock_of_machine(folder: Path, wait: bool) -> IO[str]:
    """A lock on the machine's own disk, for this folder and user.

    It does not use flock, which may be missing everywhere; a POSIX lock is released with its process as well.
    """
    key = hashlib.sha256(str(folder.resolve()).encode(errors="surrogateescape")).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"fsgr-{os.getuid()}-{key}.lock"
    with naming_file(path):
        return _locked_file(path, folder, wait)


def _locked_file(path: Path, folder: Path, wait: bool) -> IO[str]:
    # No link is followed, since other users may write to the same folder.
    lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+", encoding="utf-8")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            lock.seek(0)
            _refuse_or_tell(f"process {lock.read().strip() or '?'} ({folder})", lock, wait)
            fcntl.lockf(lock, fcntl.LOCK_EX)
        elif error.errno in NO_LOCKS:
            lock.close()
            raise _no_locks(folder, error) from None
        else:
            lock.close()
            raise
    _overwrite(lock, str(os.getpid()))
    return lock


def _no_locks(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"the file systems of {folder} and {tempfile.gettempdir()} have no locks ({error.strerror}), which "
        "keep two runs out of one folder; nothing is lost: set TMPDIR to a folder on a local disk, start the "
        f"lock service (NFS: rpc.statd), or mount with locks (Lustre: -o flock), {AGAIN}"
    )


def _taken(owner: Path, mine: str, place: str) -> bool:
    """Whether the folder is ours now. A file that names this machine's lock belongs to a dead process."""
    owner.parent.mkdir(parents=True, exist_ok=True)
    try:
        if owner.exists() and owner.read_text(encoding="utf-8").endswith(place):
            owner.unlink()
        opened = owner.open("x", encoding="utf-8")
    except (FileNotFoundError, FileExistsError):
        # Another run has just deleted the folder, or has it.
        return False
    try:
        with naming_file(owner), opened:
            opened.write(mine)
    except OSError:
        # A file that names nobody would keep out the next run.
        owner.unlink()
        raise
    return True


def _waited_for(owner: Path, wait: bool) -> bool:
    """Let some time go by for the owner; False if there is none any more."""
    try:
        who = owner.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    if not wait:
        raise UserError(
            f"this same run is under way in {who or 'another process'}, or was killed there; wait for it or "
            f"stop it; if it is over, delete {owner} {AGAIN} (its file system has no locks to show it)"
        )
    time.sleep(SECONDS_BETWEEN_LOOKS)
    return True
