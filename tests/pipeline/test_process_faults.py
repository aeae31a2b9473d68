"""A process that is killed, hangs or is told to stop ends all, and is named; another number of them goes on.

The command and its processes have sessions of their own, and only their own ids are ever sent a signal.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.worlds.project import ROOT

FOUND = re.compile(r"process (\d+) \(([^,]+), pid (\d+)\)")
EPOCHS = 60


def folder_of(project: Path, folder: Path, processes: int) -> Path:
    """A copy of the project before training."""
    (folder / "data").mkdir(parents=True)
    for name in ("dataset", "clip", "features", "codebook", "vocab", "labels"):
        (folder / "data" / name).symlink_to(project / "data" / name)
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["xe"] |= {"epochs": EPOCHS, "patience": EPOCHS}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    set_processes(folder, processes)
    return folder


def set_processes(folder: Path, processes: int) -> None:
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["runtime"]["processes"] = processes
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


class Training:
    """The stage train_xe as a user starts it, and the processes that it says it has."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "console.txt"
        (folder / "sitecustomize.py").write_text(FAILS_ON_REQUEST)
        environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "OMP_NUM_THREADS": "1"}
        with self.log.open("w") as console:
            self.command = subprocess.Popen(
                [sys.executable, "-m", "pipeline.train_xe"],
                cwd=folder,
                env=environment,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self.pids: dict[int, int] = {}

    def reach(self, epoch: int) -> None:
        """Wait until this epoch is over."""
        end = time.monotonic() + 200
        while f"XE epoch {epoch}: " not in self.log.read_text():
            assert self.command.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)
        self.pids = {int(rank): int(pid) for rank, _, pid in FOUND.findall(self.log.read_text())}

    def epochs(self) -> list[int]:
        """The epochs that it has finished."""
        return [int(epoch) for epoch in re.findall(r"^XE epoch (\d+): ", self.log.read_text(), re.M)]

    def end(self) -> str:
        """Wait for the end; no process may be left. Returns the last lines: of process 0, of the command."""
        try:
            assert self.command.wait(200) == 1
        finally:
            left = [pid for pid in (self.command.pid, *self.pids.values()) if Path(f"/proc/{pid}").exists()]
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            self.command.wait(10)
        assert not left
        return "\n".join(self.log.read_text().splitlines()[-2:])


# Python runs it at the start of each process: a signal that else means nothing becomes an error of it.
FAILS_ON_REQUEST = """
import signal

def fail(number, frame):
    raise ValueError("row 7 is damaged")

signal.signal(signal.SIGUSR1, fail)
"""
AT = r"in XE epoch \d+/60, step \d"
FAULTS = [
    (1, signal.SIGKILL, rf"process 1 of 2 \(pid \d+ on .+\) was ended by SIGKILL {AT}"),
    (0, signal.SIGKILL, rf"process 0 of 2 \(pid \d+ on .+\) was ended by SIGKILL {AT}"),
    (1, signal.SIGUSR1, rf"process 1 of 2 \(pid .+\) failed: ValueError: row 7 is damaged {AT}"),
    (1, signal.SIGTERM, r"stopped by a signal to another process; saved XE epoch \d+/60, step \d"),
    (1, signal.SIGINT, r"stopped by a signal to another process; saved XE epoch \d+/60, step \d"),
    (None, signal.SIGTERM, r"stopped by SIGTERM; saved XE epoch \d+/60, step \d"),
    (None, signal.SIGINT, r"stopped by SIGINT; saved XE epoch \d+/60, step \d"),
]


def inject(training: Training, rank: int | None, send: signal.Signals) -> str:
    """Send a signal to a process, or to the command; returns the last that it says."""
    os.kill(training.command.pid if rank is None else training.pids[rank], send)
    return training.end()


@pytest.mark.slow
def test_after_each_fault_another_number_of_processes_goes_on(project, tmp_path):
    folder, epoch = folder_of(project, tmp_path / "work", 2), 0
    for rank, send, told in FAULTS:
        training = Training(folder)
        training.reach(epoch + 1)
        begun = time.monotonic()
        line = inject(training, rank, send)
        assert re.search(told + ".*run the same command to continue", line), line
        assert time.monotonic() - begun < 30
        epoch = training.epochs()[-1]
    set_processes(folder, 3)
    training = Training(folder)
    assert training.command.wait(300) == 0
    assert training.epochs()[0] in (epoch, epoch + 1)
    assert training.epochs()[-1] == EPOCHS
    assert (folder / "data" / "models" / "xe" / "model.safetensors").exists()


@pytest.mark.nightly
def test_a_process_that_hangs_is_noticed_within_two_minutes(project, tmp_path):
    training = Training(folder_of(project, tmp_path / "work", 2))
    training.reach(1)
    begun = time.monotonic()
    line = inject(training, 1, signal.SIGSTOP)
    assert re.search(rf"process 1 \(.+, pid \d+\) did not answer for 1\d\d s {AT}", line), line
    # It has to be ended by SIGKILL, for which torchrun waits 30 s.
    assert time.monotonic() - begun < 150
    assert list(training.folder.glob(".resume/*/state.safetensors"))
