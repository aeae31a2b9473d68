"""Python's own report of what is opened, listed, moved and deleted, against the list of places."""

import os
import sys
from pathlib import Path
from typing import Any

from tests.faults.places import LINES

EVENTS = ("open", "os.", "shutil.", "tempfile.", "fcntl.", "pathlib.")
# Of no file: the environment, signals, other processes.
OTHERS = ("os.putenv", "os.unsetenv", "os.fork", "os.kill", "os.posix_spawn", "os.system", "os.exec")
# What drivers do themselves.
DRIVERS = ("tests.faults.rare", "tests.faults.world")


class Watch:
    """Which lines of the project asked the system for a file below `root`, and are no places."""

    def __init__(self, root: Path) -> None:
        self.root, self.unknown, self.on = str(root), set[str](), False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, given: tuple[Any, ...]) -> None:
        if not self.on or not event.startswith(EVENTS) or event in OTHERS:
            return
        if given and isinstance(given[0], str | os.PathLike):
            name = os.fspath(given[0])
            if isinstance(name, str) and str(Path.cwd() / name).startswith(self.root):
                self._look(event)

    def _look(self, event: str) -> None:
        """The nearest line of the project on the stack."""
        frame = sys._getframe(2)
        while frame is not None and frame.f_code.co_filename not in LINES:
            # What a library looks for when it is imported is no call of the project's.
            if frame.f_globals.get("__name__", "").startswith((*DRIVERS, "importlib._bootstrap")):
                return
            frame = frame.f_back
        if frame is not None and frame.f_lineno not in LINES[frame.f_code.co_filename]:
            file = Path(frame.f_code.co_filename).name
            self.unknown.add(f"{file}: {frame.f_code.co_qualname}, line {frame.f_lineno}: {event}")
