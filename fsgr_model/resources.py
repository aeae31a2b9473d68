"""What a machine can run out of, told in one line."""

import errno
import re
import resource

# Libraries that are not Python put the error's number into their text: HDF5, safetensors of today and before.
NUMBER_IN_TEXT = re.compile(r"(?:errno = |\(os error |Os \{ code: )(\d+)")
AGAIN = "and run the same command again"


def explain(error: BaseException) -> str | None:
    """The line that tells a user what the machine lacks; None where the error is something else."""
    place = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    match error_number(error):
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
            reason = "the file system is read-only" if error_number(error) == errno.EROFS else "no permission"
            return f"cannot open or write{place}: {reason}; make it writable for this user {AGAIN}"
    return None


def error_number(error: BaseException) -> int | None:
    """The system's number of an error, also where a library hides it in its text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = NUMBER_IN_TEXT.search(str(error))
    return int(found[1]) if found else None


def allow_many_files() -> None:
    """Raise this process's limit of open files to the most that the system grants it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError):
        # macOS reports no limit and grants less. The limit then stays as it was.
        return


def _open_file_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
