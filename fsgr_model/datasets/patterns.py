"""Files that a parameter names by a pattern."""

from pathlib import Path

from fsgr_model.runtime.errors import UserError


def files_matching(root: Path, pattern: str, *, parameter: str, remedy: str = "") -> list[Path]:
    """The files below `root` that match, sorted; `remedy` ends the message if there is none.

    Raises:
        UserError: the value of `parameter` is not a pattern below `root`, or nothing matches it.
    """
    try:
        found = sorted(root.glob(pattern))
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"{parameter}: {pattern!r} is not a pattern below {root}: {error}") from None
    if not found:
        raise UserError(f"{parameter}: no file below {root} matches {pattern!r}{remedy}")
    return found
