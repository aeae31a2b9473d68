"""The one error a user sees, and the wrapper that every command runs in."""

import errno
import sys
from collections.abc import Callable


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
    """Run `main`; turn a `UserError` or a full disk into one clear message and exit code 1."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = f" while writing {error.filename}" if error.filename else ""
        sys.exit(f"error: no space left on the disk{place}; free some space and run the same command again")
