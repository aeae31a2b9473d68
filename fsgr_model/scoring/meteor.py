"""METEOR (Denkowski and Lavie, 2014), by pycocoevalcap's Java program."""

import contextlib
import subprocess
import tempfile
import threading
from pathlib import Path

from pycocoevalcap.meteor import meteor as official

from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.caption_tokens import Sentences
from fsgr_model.scoring.java import JavaFailure, reason, start_java

FOLDER = Path(official.__file__).parent
ARGUMENTS = ["-Xmx2G", "-jar", official.METEOR_JAR, "-", "-", "-stdio", "-l", "en", "-norm"]
# Seconds that a failing program may take to end after its output has ended.
SECONDS_TO_END = 5.0


class _Scorer(official.Meteor):
    """pycocoevalcap's METEOR client with a program that was started here."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.meteor_p = process
        self.lock = threading.Lock()


class MeteorProgram:
    """METEOR's Java program: started once, for any number of scores; a context manager that ends it.

    It takes seconds to load its tables, which happens while other metrics are computed.

    Raises:
        UserError: the program cannot be run.
    """

    def __init__(self, java: Path) -> None:
        self.java = java
        # A file: a pipe that nobody reads would fill, and the program wait.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        try:
            self._scorer = _Scorer(start_java(java, ARGUMENTS, FOLDER, self._said))
        except JavaFailure as failure:
            self._said.close()
            raise self._error(str(failure)) from None

    def score(self, truth: Sentences, found: Sentences) -> tuple[float, list[float]]:
        """The score of the whole set, and of each image.

        Raises:
            UserError: the program fails.
        """
        try:
            return self._scorer.compute_score(truth, found)
        except (OSError, ValueError) as error:
            self._scorer.lock.release()
            raise self._error(self._reason(error)) from None

    def _reason(self, error: Exception) -> str:
        """Why the program failed; `error` is what its output gave here."""
        process = self._scorer.meteor_p
        try:
            code = process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            return str(error)
        self._said.seek(0)
        return reason(self._said.read().decode(errors="replace"), code)

    def _error(self, why: str) -> UserError:
        return UserError(
            f"METEOR failed with {self.java}: {why}; take meteor out of evaluate.java (--meteor off) to do "
            "without it"
        )

    def __enter__(self) -> "MeteorProgram":
        return self

    def __exit__(self, *error: object) -> None:
        """End the process now; pycocoevalcap would leave that to the garbage collector."""
        process = self._scorer.meteor_p
        process.kill()
        process.wait()
        self._said.close()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None, "they were asked for"
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
