"""The one error that a user sees, and the wrapper that every command runs in."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from fsgr_model.runtime.resources import MAY_BE_DAMAGE, allow_many_files, error_number, explain
from fsgr_model.runtime.stopping import Stopped, end_with_parent, stop_request


class UserError(Exception):
    """Something the user can put right.

    The message names the rule, what was found (file, id, number) and what to do next. It is one line:
    characters of a quoted name that would break the line or reverse its direction are shown as escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(map(_shown, message)))


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def raise_if_refused(error: BaseException, path: Path) -> None:
    """Call this before calling `path` damaged: it is not if the system refused to read it.

    Raises:
        UserError: the message says what the system refused, and what to do.
    """
    line = explain(error, path)
    if line is not None and error_number(error) not in MAY_BE_DAMAGE:
        raise UserError(line) from None


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Add `path` to a system error of the block that names no file itself.

    The system names no file in errors about an open file, that is when it is locked, written to or flushed.

    Raises:
        UserError: replaces an error of a library that has the system's error number only in its text.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            # EPIPE is about standard output, which is not a file.
            if error.filename is None and error.errno != errno.EPIPE:
                error.filename = os.fspath(path)
            raise
        line = explain(error, path)
        if line is None:
            raise
        raise UserError(line) from None


@contextmanager
def needing_extra(extra: str) -> Iterator[None]:
    """Import packages of an extra (pyproject.toml, optional-dependencies) within this context.

    Raises:
        UserError: one of them is not installed; the message has the command that installs the extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"this needs the package {error.name}, which is not installed: "
            f'pip install "fsgr-captioning[{extra}]"'
        ) from None


def run_command(main: Callable[[], None]) -> None:
    """Run `main`; turn a `UserError`, a signal or a full machine into one clear line and exit code 1.

    A command that DVC started ends when DVC ends, since nothing else would wait for it.
    """
    allow_many_files()
    if "DVC_STAGE" in os.environ:
        end_with_parent(os.getppid(), signal.SIGTERM)
    try:
        with stop_request():
            main()
            sys.stdout.flush()
    except UserError as error:
        sys.exit(f"error: {error}")
    except Stopped as stop:
        sys.exit(str(stop))
    except (OSError, RuntimeError, SafetensorError) as error:
        line = explain(error)
        if line is None:
            raise
        if error_number(error) in (errno.ENOSPC, errno.EPIPE, errno.EIO):
            drop_output()
        sys.exit(f"error: {UserError(line)}")


def drop_output() -> None:
    """Drop what standard output did not take: Python would try again at exit, and print a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        # Closing tries once more, fails, and closes the stream nevertheless.
        with suppress(OSError):
            sys.stdout.close()
