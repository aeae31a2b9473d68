"""The one error a user sees, and the wrapper that every command runs in."""

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

    The message names the rule, what was found (file, id, number) and what to do next. It is one line: what
    would break the line, or turn it around, in a name that it quotes is shown as an escape.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(map(_shown, message)))


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def raise_if_refused(error: BaseException, path: Path) -> None:
    """For who reads `path` and would call it damaged: where the system did not let it be read, it is not.

    Raises:
        UserError: what the system refused, and what to do.
    """
    line = explain(error, path)
    if line is not None and error_number(error) not in MAY_BE_DAMAGE:
        raise UserError(line) from None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An error of the system within the block is about `path`, where it names no file itself.

    The system names none where the file is open already: it is locked, written to or flushed then.

    Raises:
        UserError: in place of an error of a library that keeps the system's number in its text alone.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            # What standard output leads to is no file.
            if error.filename is None and error.errno != errno.EPIPE:
                error.filename = os.fspath(path)
            raise
        line = explain(error, path)
        if line is None:
            raise
        raise UserError(line) from None


def run_command(main: Callable[[], None]) -> None:
    """Run `main`; turn a `UserError`, a signal or a full machine into one clear line and exit code 1.

    A command that DVC started ends with DVC: nobody else would wait for it.
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
            _drop_output()
        sys.exit(f"error: {UserError(line)}")


def _drop_output() -> None:
    """Python would try again at its end to write what standard output did not take, with a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        # It tries once more, fails, and is closed all the same.
        with suppress(OSError):
            sys.stdout.close()
