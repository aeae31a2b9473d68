"""The one error a user sees, and the wrapper that every command runs in."""

import os
import signal
import sys
from collections.abc import Callable

from safetensors import SafetensorError

from fsgr_model.resources import allow_many_files, explain
from fsgr_model.stopping import Stopped, end_with_parent, stop_request


class UserError(Exception):
    """Something the user can put right.

    The message names the rule, what was found (file, id, number) and what to do next. It is one line: what
    would break the line, or turn it around, in a name that it quotes is shown as an escape.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(map(_shown, message)))


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


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
    except UserError as error:
        sys.exit(f"error: {error}")
    except Stopped as stop:
        sys.exit(str(stop))
    except (OSError, RuntimeError, SafetensorError) as error:
        line = explain(error)
        if line is None:
            raise
        sys.exit(f"error: {line}")
