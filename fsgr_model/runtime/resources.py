"""Explains in one line what a machine ran out of or refused."""

import errno
import os
import re
import resource
from pathlib import Path

# Libraries put the system's error number into their text: HDF5, safetensors (new and old), Python if an error
# is raised again (by a DataLoader's worker), and PyTorch, with the system's words before the number.
NUMBER_IN_TEXT = re.compile(r"(?:errno = |\(os error |Os \{ code: |\[Errno )(\d+)")
WORDS_AND_NUMBER = re.compile(r"([A-Z][\w ]+) \((\d+)\)")
# PyTorch and Python about a process of theirs that something else ended.
WORKER_ENDED = re.compile(
    r"DataLoader worker \(pid.*\) (is killed|exited)|A process in the process pool was term"
)
# The largest error number. Not each one has a name: NFS returns some that are internal to Linux.
MOST = 4095
# The numbers that Python's own kinds of errors stand for, where a library raises one without a number.
NUMBER_OF_KIND: tuple[tuple[type[OSError], int], ...] = (
    (FileNotFoundError, errno.ENOENT),
    (PermissionError, errno.EACCES),
    (IsADirectoryError, errno.EISDIR),
    (NotADirectoryError, errno.ENOTDIR),
    (FileExistsError, errno.EEXIST),
    (BlockingIOError, errno.EAGAIN),
    (TimeoutError, errno.ETIMEDOUT),
    (BrokenPipeError, errno.EPIPE),
)
# flock() on NFS without its lock service, Lustre mounted without `-o flock`, file systems without locks.
NO_LOCKS = frozenset((errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP))
# Another program has the lock.
HELD = frozenset((errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK))
# A damaged file can ask the system for offsets that no file has, or for more memory than there is.
MAY_BE_DAMAGE = frozenset((errno.EINVAL, errno.EOVERFLOW, errno.ENOMEM, errno.EFBIG))
# Errors of the machine or its network: the file is intact, and the next one would fail in the same way.
OF_MACHINE = frozenset(
    (
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EAGAIN,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ENOTCONN,
        errno.EHOSTDOWN,
        errno.ENETDOWN,
    )
)
# Errors of a download that come from this machine; all others come from the connection.
ON_DISK = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.ESTALE,
        errno.EMFILE,
    )
)
AGAIN = "and run the same command again"
CHECK_MOUNT = f"see whether the disk or the network drive works and is mounted (`df`, `dmesg`), {AGAIN}"
# What to do about the errors that have no message of their own.
WAYS_OUT = {
    CHECK_MOUNT: (
        "EIO", "ESTALE", "EREMOTEIO", "ENODEV", "ENXIO", "ETIMEDOUT", "ENOTCONN", "ECONNRESET", "EHOSTDOWN",
        "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENOMEDIUM", "EUCLEAN", "EBADMSG", "ESHUTDOWN",
    ),
    f"check the path, {AGAIN}": ("ENOENT", "ENOTDIR", "EISDIR", "EEXIST", "ENOTEMPTY"),
    f"see where its links lead, {AGAIN}": ("ELOOP",),
    f"give it a shorter name, {AGAIN}": ("ENAMETOOLONG",),
    f"end the program that uses it (`fuser -v FILE` names it), {AGAIN}": ("EBUSY", "ETXTBSY"),
    f"close other programs, {AGAIN}": ("ENOMEM", "EAGAIN"),
}  # fmt: skip
WAY_OUT = {name: way for way, names in WAYS_OUT.items() for name in names}


def explain(error: BaseException, path: Path | None = None) -> str | None:
    """The line that says what the system refused; None if the error is not one of the system.

    `path` is the file that the error is about, if the error itself names none.
    """
    if WORKER_ENDED.match(str(error)):
        return (
            f"a worker process was ended from outside ({str(error).strip()}), as systems do that run out of "
            f"memory; close other programs or lower runtime.workers, {AGAIN}"
        )
    name = error.filename if isinstance(error, OSError) and error.filename else path
    place = f" ({name})" if name else ""
    match number := error_number(error):
        case None:
            return None
        case errno.ENOSPC | errno.EDQUOT:
            return f"no space left on the disk{place}; free some space {AGAIN}"
        case errno.EFBIG:
            return f"a file grew beyond what this system allows{place}; see `ulimit -f` {AGAIN}"
        case errno.EMFILE | errno.ENFILE:
            return (
                f"too many open files{place}, {_open_file_limit()} are allowed; raise it (`ulimit -n 65536`) "
                f"or lower runtime.workers, {AGAIN}"
            )
        case errno.EACCES | errno.EPERM | errno.EROFS:
            reason = "the file system is read-only" if number == errno.EROFS else "no permission"
            return f"cannot open or write{place}: {reason}; make it writable for this user {AGAIN}"
        case errno.ENOLCK:
            return f"the file system has no locks{place}; docs/howto/interruptions.md says what can be done"
    words = os.strerror(number) if number > 0 else str(error)
    way = WAY_OUT.get(errno.errorcode.get(number, ""), f"see to it, {AGAIN}")
    return f"the system refused an operation on a file or folder{place}: {words}; {way}"


def error_number(error: BaseException) -> int | None:
    """The system's number of an error, also where a library has it only in its text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error)
    found = [number for number in map(int, NUMBER_IN_TEXT.findall(text)) if 0 < number <= MOST]
    found += [
        int(number) for words, number in WORDS_AND_NUMBER.findall(text) if words == os.strerror(int(number))
    ]
    found += [number for kind, number in NUMBER_OF_KIND if isinstance(error, kind)]
    return next(iter(found), None)


def allow_many_files() -> None:
    """Raise this process's limit of open files to the most that the system grants it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError):
        # macOS reports no limit but grants less. The limit then stays as it was.
        return


def _open_file_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
