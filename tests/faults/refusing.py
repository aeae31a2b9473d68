"""Refuse a place of a command that runs: the process forks there, and the fork sees the system refuse.

So nothing is done twice to come to a place, and a fork lasts no longer than the command's end does from there
on. All forks work in the one folder of the command; what they change in it is undone before it goes on.
"""

import errno
import faulthandler
import hashlib
import inspect
import io
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tests.faults.places import PACKAGES, Place
from tests.faults.tree import Tree

if TYPE_CHECKING:
    from tests.faults.world import Driver

# A fork that takes longer than this waits for something that never comes: it is ended, which is an outcome.
SECONDS = 60.0
# At this signal a process prints where each of its threads is.
WHERE, SECONDS_TO_SAY = signal.SIGUSR1, 0.5
# How the libraries word what the system refuses: exactly so, but for the paths in it.
HDF5 = (
    "Unable to synchronously open file (unable to open file: name = '…', errno = {0}, error message = '{1}')"
)
RUST_READS = "{1} (os error {0})"
RUST_WRITES = "Error while serializing: I/O error: {1} (os error {0})"


@dataclass
class Outcome:
    """How a command ended whose `place`, which was about the file `path`, was refused with error `number`."""

    driver: str
    place: Place
    number: int
    code: int = 0
    # The exit code where nothing is refused.
    ends: int = 0
    said: str = ""
    path: str = ""
    # Files that are no longer as before, and what they are; files that are gone.
    changed: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        name = errno.errorcode.get(self.number, str(self.number))
        refused = f"{self.driver}: {self.place} refused with {name} ({self.path}): exit {self.code}"
        return f"{refused}; changed: {self.changed}; lost: {self.lost}"


class Refusals:
    """The gate of all places while one driver runs."""

    def __init__(self, numbers: Callable[[Place], Sequence[int]], callers: int = 0) -> None:
        """`numbers` are the errors of a place; with `callers`, each way to it by so many counts apart."""
        self.numbers, self.callers = numbers, callers
        self.reached: set[Place] = set()
        self.done: set[tuple[Place, tuple[str, ...]]] = set()
        # Calls of functions of the project that are called as a file's are, and files in memory.
        self.no_file: set[Place] = set()
        # Come to in a thread or beside one, or beside a worker: a fork there would lack a part of the
        # process, or take what the worker sends to it.
        self.later: dict[Place, None] = {}
        self.outcomes: list[Outcome] = []
        self.refused: tuple[Place, int] | None = None
        self.driver, self.tree, self.before = "", Tree(Path()), dict[str, str]()

    def gate(
        self, place: Place, call: Callable[..., Any], given: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        if multiprocessing.parent_process() and not self.refused:
            return call(*given, **named)
        self.reached.add(place)
        if _is_own(call) or any(isinstance(each, io.BytesIO) for each in given):
            self.no_file.add(place)
            return call(*given, **named)
        if self.refused and self.refused[0] == place:
            path = _path(call, given)
            if not self.tree.about.exists():
                self.tree.about.write_text(path)
            raise _error(self.refused[1], call, path)
        if not self.refused and (way := (place, self._callers())) not in self.done:
            self.done.add(way)
            if threading.active_count() > 1 or multiprocessing.active_children():
                self.later[place] = None
            else:
                self._fork_at(place, call, given)
        return call(*given, **named)

    def run(self, driver: "Driver", tree: Tree) -> None:
        """Run a command once, and once more for each place that it comes to in a thread."""
        self.driver, self.tree, self.before = driver.name, tree, tree.contents()
        start, self.later, first = tree.taken(), {}, len(self.outcomes)
        code, said = _ended(driver.main, lambda: self.refused is not None)
        assert code == driver.ends, f"{driver.name} ends with {code}: {said}"
        after = tree.contents()
        for place in self.later:
            tree.restore(start)
            self._rerun(place, driver.main)
        for outcome in self.outcomes[first:]:
            outcome.ends = driver.ends
            _judge(outcome, after)

    def _callers(self) -> tuple[str, ...]:
        frame, found = sys._getframe(3), []
        while frame is not None and len(found) < self.callers:
            if frame.f_globals.get("__name__", "").partition(".")[0] in PACKAGES:
                found.append(frame.f_code.co_qualname)
            frame = frame.f_back
        return tuple(found)

    def _fork_at(self, place: Place, call: Callable[..., Any], given: tuple[Any, ...]) -> None:
        try:
            path, taken = _path(call, given), self.tree.taken()
            for number in self.numbers(place):
                outcome = self._begun(Outcome(self.driver, place, number, path=path))
                if _forked := _fork(self.tree.output):
                    self._collect(outcome, _forked, taken)
                else:
                    self.refused = (place, number)
                    break
        except BaseException:  # noqa: BLE001 - a fault of the test, which the command would take for its own
            traceback.print_exc()
            os._exit(3)
        if self.refused:
            raise _error(self.refused[1], call, path)

    def _rerun(self, place: Place, main: Callable[[], None]) -> None:
        taken = self.tree.taken()
        for number in self.numbers(place):
            outcome = self._begun(Outcome(self.driver, place, number))
            self.tree.about.unlink(missing_ok=True)
            if (child := _fork(self.tree.output)) == 0:
                self.refused = (place, number)
                _ended(main, lambda: True)
            self._collect(outcome, child, taken)
            assert self.tree.about.exists(), f"{self.driver} does not come to {place} again"
            outcome.path = self.tree.about.read_text()

    def _begun(self, outcome: Outcome) -> Outcome:
        """Say which one it is: who watches the sweep sees that it goes on, and where it does not."""
        print(f"sweep: {outcome.driver}: {outcome.place}, {outcome.number}", file=sys.stderr, flush=True)
        return outcome

    def _collect(self, outcome: Outcome, child: int, taken: Any) -> None:
        outcome.code = _wait(child)
        outcome.said = self.tree.output.read_text(encoding="utf-8", errors="replace")
        now = self.tree.contents()
        outcome.changed = {name: digest for name, digest in now.items() if self.before.get(name) != digest}
        outcome.lost = [name for name in self.before if name not in now]
        self.outcomes.append(outcome)
        self.tree.restore(taken)


def _judge(outcome: Outcome, after: dict[str, str]) -> None:
    """Leave only what is neither as before the command nor as after it."""
    outcome.changed = {name: digest for name, digest in outcome.changed.items() if after.get(name) != digest}
    outcome.lost = [name for name in outcome.lost if name in after]


def _ended(main: Callable[[], None], is_fork: Callable[[], bool]) -> tuple[int, str]:
    """The exit code of a command, and what it said as an error; of a fork it is the end."""
    code, said = 0, ""
    try:
        main()
    except SystemExit as end:
        code, said = (end.code, "") if isinstance(end.code, int) else (1, str(end.code or ""))
        code = 0 if end.code is None else code
    except BaseException:  # noqa: BLE001 - it is what the sweep looks for
        code, said = 70, traceback.format_exc()
    if is_fork():
        _end_fork(code, said)
    return code, said


def _end_fork(code: int, said: str) -> NoReturn:
    with suppress(OSError, ValueError):
        print(said, file=sys.stderr, flush=True)
        sys.stdout.flush()
    os._exit(code)


def _fork(output: Path) -> int:
    """A fork keeps the locks that it came with, and writes to `output`."""
    held = sys.modules.get("fsgr_model.runtime.folder_lock")
    locks = [(held.HELD, list(held.HELD))] if held else []
    for known, _ in locks:
        known.clear()
    sys.stdout.flush()
    child = os.fork()
    for known, before in locks:
        known.update(before)
    if child == 0:
        # A group of its own, so that it is ended with all processes that it starts.
        os.setpgid(0, 0)
        written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(written, 1)
        os.dup2(written, 2)
    return child


def _wait(child: int) -> int:
    """The exit code of a fork. It ends within SECONDS, and with it what it started."""
    end, pause, status = time.monotonic() + SECONDS, 0.0005, None
    while status is None:
        found, ended = os.waitpid(child, os.WNOHANG)
        if found:
            status = ended
        elif time.monotonic() > end:
            os.kill(child, WHERE)
            time.sleep(SECONDS_TO_SAY)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        else:
            time.sleep(pause)
            pause = min(2 * pause, 0.01)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status)


def say_where_at_a_signal() -> None:
    faulthandler.register(WHERE, file=2, all_threads=True)


def _is_own(call: Callable[..., Any]) -> bool:
    return (getattr(call, "__module__", None) or "").partition(".")[0] in PACKAGES


def _path(call: Callable[..., Any], given: tuple[Any, ...]) -> str:
    """The file that a call is about; empty where that is not to be found out."""
    owner = getattr(call, "__self__", None)
    if inspect.ismodule(owner):
        owner = None
    if getattr(call, "__name__", "").startswith("Temporary"):
        return tempfile.gettempdir()
    for each in (owner, *given):
        each = each[0] if isinstance(each, list) else each
        if not isinstance(each, os.PathLike):
            each = getattr(each, "filename", getattr(each, "name", each))
        if isinstance(each, os.PathLike | str):
            return os.fspath(each)
        if isinstance(each, int):
            opened = Path(f"/proc/self/fd/{each}")
            return str(opened.readlink()) if opened.is_symlink() else ""
    return ""


def _error(number: int, call: Callable[..., Any], path: str) -> BaseException:
    """What the caller would see."""
    words, module = os.strerror(number), getattr(call, "__module__", None) or ""
    name = getattr(call, "__name__", "")
    if module.startswith("h5py"):
        return OSError(number, HDF5.format(number, words))
    if module.startswith("safetensors") or name == "safe_open":
        from safetensors import SafetensorError

        if name == "save_file":
            return SafetensorError(RUST_WRITES.format(number, words))
        return type(OSError(number, words))(RUST_READS.format(number, words))
    named = isinstance(getattr(call, "__self__", None), Path) or name in NAMED or module.startswith("dvc")
    return OSError(number, words, path) if named and path else OSError(number, words)


# Functions whose errors say which file they are about; those of opened files do not.
NAMED = (
    "open", "link", "copyfile", "rmtree", "disk_usage", "realpath", "scandir", "memmap", "load", "is_zipfile",
    "ZipFile", "copytree", "mkdir", "Popen", "run", "is_dir", "is_symlink", "is_file", "stat",
    "TemporaryFile", "TemporaryDirectory",
)  # fmt: skip


def write(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for each in outcomes:
        yield json.dumps({**each.__dict__, "place": list(each.place.__dict__.values())})


def read(line: str) -> Outcome:
    found = json.loads(line)
    return Outcome(**{**found, "place": Place(*found["place"])})


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
