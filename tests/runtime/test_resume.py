"""One run at a time in a resume folder: by hand the second one is refused, an experiment waits."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.resume import GONE, resume_point
from fsgr_model.runtime.stopping import Stopped

ROOT = Path(__file__).parents[2]
# Holds the folder, has a worker that would hold it too, and says so.
HOLDER = """
import os, time
from fsgr_model.runtime.resume import resume_point
with resume_point("stage", "abc"):
    if os.fork() == 0:
        time.sleep(60)
    print("held", flush=True)
    time.sleep(60)
"""


class Vanished(Exception):
    """A run that ended in some way of its own."""


@pytest.fixture(autouse=True)
def by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)


def save_and_vanish(error: BaseException, name: str = "abc") -> None:
    with resume_point("stage", name) as point:
        point.save({"x": torch.ones(2)}, {"epoch": 1})
        raise error


def test_a_second_run_by_hand_is_refused_and_takes_nothing_away():
    with pytest.raises(Vanished), resume_point("stage", "abc") as first:
        first.save({"x": torch.ones(2)}, {"epoch": 1})
        with (
            pytest.raises(UserError, match=f"already under way in process {os.getpid()}"),
            resume_point("stage", "abc"),
        ):
            pass
        assert first.load() is not None
        raise Vanished
    with resume_point("stage", "abc") as again:
        assert again.load() is not None


def test_a_finished_run_leaves_nothing_and_another_one_is_not_touched(tmp_path):
    for name in ("abc", "other"):
        with pytest.raises(Vanished):
            save_and_vanish(Vanished(), name)
    with resume_point("stage", "abc"):
        pass
    assert [folder.name for folder in (tmp_path / ".resume").iterdir()] == ["stage-other"]


def test_what_a_run_left_that_was_killed_while_it_cleared_up_is_deleted(tmp_path):
    half_gone = tmp_path / ".resume" / f"stage-abc.17{GONE}"
    half_gone.mkdir(parents=True)
    (half_gone / "best.safetensors").write_bytes(b"x")
    with resume_point("stage", "abc") as point:
        assert point.load() is None
    assert not any((tmp_path / ".resume").iterdir())


def test_a_stopped_run_says_where_its_work_is(tmp_path):
    with pytest.raises(
        Stopped, match=r"stopped by SIGTERM; what is done is kept in .*stage-abc; run the same"
    ):
        save_and_vanish(Stopped("SIGTERM"))
    with pytest.raises(Stopped, match="there was nothing to save yet"), resume_point("stage", "new"):
        raise Stopped("SIGTERM")


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"{" + data[1:]])
def test_a_damaged_state_is_refused(tmp_path, damage):
    with pytest.raises(Vanished):
        save_and_vanish(Vanished())
    state = tmp_path / ".resume" / "stage-abc" / "state.safetensors"
    state.write_bytes(damage(state.read_bytes()))
    with (
        pytest.raises(UserError, match=r"state.safetensors is damaged .*delete"),
        resume_point("stage", "abc") as p,
    ):
        p.load()


def test_the_lock_of_a_killed_run_is_free_at_once_though_its_worker_lives_on(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, env=environment, start_new_session=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    try:
        with (
            pytest.raises(UserError, match=f"under way in process {holder.pid}"),
            resume_point("stage", "abc"),
        ):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        os.waitpid(holder.pid, 0)
        os.killpg(holder.pid, 0)  # the worker is there
        with resume_point("stage", "abc"):
            assert (tmp_path / ".resume" / "stage-abc" / "lock").read_text() == str(os.getpid())
    finally:
        os.killpg(holder.pid, signal.SIGKILL)


@pytest.mark.parametrize("finished", [True, False])
def test_an_experiment_waits_and_then_has_the_folder(monkeypatch, capsys, finished):
    """Behind a run that finished it starts afresh; behind one that stopped it goes on from there."""
    monkeypatch.setenv("DVC_EXP_NAME", "waney-daws")
    found = []

    def second() -> None:
        with resume_point("stage", "abc") as point:
            found.append(point.load())
            point.save({"y": torch.zeros(1)}, {"epoch": 2})
            assert point.load() is not None

    waiting = threading.Thread(target=second)

    def first() -> None:
        with resume_point("stage", "abc") as point:
            point.save({"x": torch.ones(2)}, {"epoch": 1})
            waiting.start()
            waiting.join(timeout=0.3)
            assert waiting.is_alive() and not found
            if not finished:
                raise Vanished

    if finished:
        first()
    else:
        with pytest.raises(Vanished):
            first()
    waiting.join(timeout=10)
    assert not waiting.is_alive()
    assert (found[0] is None) == finished
    assert "waiting for it" in capsys.readouterr().out
