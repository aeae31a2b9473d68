"""What a process says goes to its console and to a file."""

import sys
from pathlib import Path
from typing import IO, Any


class TwoOutputs:
    """Stands for a console's stream, and adds what is written to a log; all else is the console's."""

    def __init__(self, console: IO[str], log: IO[str]) -> None:
        self.console, self.log = console, log

    def write(self, text: str) -> int:
        """To both. The log is whole up to the last line, however the process ends."""
        self.log.write(text)
        self.log.flush()
        return self.console.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.console, name)


def keep_log(path: Path) -> None:
    """Add all that this process prints from now on to a file, to its end."""
    log = path.open("a", encoding="utf-8")
    sys.stdout = TwoOutputs(sys.stdout, log)
    sys.stderr = TwoOutputs(sys.stderr, log)
