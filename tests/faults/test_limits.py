"""What waits without end is ended with all that it started, and said to be what it is."""

import errno
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults import refusing
from tests.faults.places import Place
from tests.faults.refusing import Refusals, say_where_at_a_signal
from tests.faults.tree import Tree
from tests.faults.watched import started
from tests.faults.world import Driver

PLACE = Place("module", "function", "path.open")


def ends(process: int) -> bool:
    """Soon. A process that nobody waits for stays in the list when it is dead."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_a_refused_command_that_waits_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, aside = tmp_path / "project", tmp_path / "aside"
    for folder in (project, aside):
        folder.mkdir()
    (project / "file").touch()
    monkeypatch.setattr(refusing, "SECONDS", 0.5)
    monkeypatch.setattr(refusing, "SECONDS_TO_SAY", 0.1)
    refusals = Refusals(lambda place: [errno.EIO])

    def wait_for_one_that_is_dead() -> None:
        try:
            refusals.gate(PLACE, Path.open, (project / "file",), {}).close()
        except OSError:
            started = subprocess.Popen(["sleep", "60"])
            (aside / "started").write_text(str(started.pid))
            started.wait()

    say_where_at_a_signal()
    refusals.run(Driver("waits", wait_for_one_that_is_dead), Tree(project, aside))
    (outcome,) = refusals.outcomes
    assert (outcome.place, outcome.number, outcome.code) == (PLACE, errno.EIO, -signal.SIGKILL)
    assert "in wait_for_one_that_is_dead" in outcome.said
    assert ends(int((aside / "started").read_text()))


def test_a_sweep_that_says_nothing_any_more() -> None:
    code = "import subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    watched = started("timeit", "-n1", "-r1", code)
    start = time.monotonic()
    assert watched.ended(1.0) < 0
    assert time.monotonic() - start < 20
    assert ends(int(watched.said().split()[0]))
    with pytest.raises(ProcessLookupError):
        os.kill(watched.process.pid, 0)
