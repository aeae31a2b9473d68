"""A process that is ended, with all that it started, when it has said nothing for too long."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.faults.places import ROOT
from tests.faults.refusing import SECONDS_TO_SAY, WHERE

PAUSE = 0.05


@dataclass
class Watched:
    """`output` is a file: a pipe would stay open as long as anything that the process left behind."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]

    def ended(self, still: float) -> int:
        """The exit code. After `still` seconds without a word the process says where it is, and is ended."""
        size, last = -1, time.monotonic()
        while (code := self.process.poll()) is None:
            if (now := os.fstat(self.output.fileno()).st_size) != size:
                size, last = now, time.monotonic()
            elif time.monotonic() - last > still:
                self.process.send_signal(WHERE)
                time.sleep(SECONDS_TO_SAY)
                self.end()
            time.sleep(PAUSE)
        return code

    def said(self) -> str:
        self.output.seek(0)
        return self.output.read().decode(errors="replace")

    def end(self) -> None:
        """Kill it and what it started: every process of its session, whatever group it is in."""
        for entry in Path("/proc").iterdir():
            with suppress(ProcessLookupError):
                if entry.name.isdecimal() and os.getsid(int(entry.name)) == self.process.pid:
                    os.kill(int(entry.name), signal.SIGKILL)
        self.process.wait()


def started(module: str, *arguments: str) -> Watched:
    output = tempfile.TemporaryFile()  # noqa: SIM115 - read to the end of the test
    command = [sys.executable, "-m", module, *arguments]
    # With a limit that nobody else's processes share: the session has the number of the process.
    options = {"stdout": output, "stderr": output, "start_new_session": True}
    return Watched(subprocess.Popen(command, cwd=ROOT, **options), output)
