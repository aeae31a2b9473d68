"""One run at a time in a resume folder: by hand the second one is refused, an experiment waits."""

import os
import threading

import pytest
import torch

from fsgr_model.errors import UserError
from fsgr_model.training.resume import resume_point


@pytest.fixture(autouse=True)
def by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)


def test_a_second_run_by_hand_is_refused_and_takes_nothing_away():
    with resume_point("stage", "abc") as first:
        first.save({"x": torch.ones(2)}, {"epoch": 1})
        with (
            pytest.raises(UserError, match=f"already under way in process {os.getpid()}"),
            resume_point("stage", "abc"),
        ):
            pass
        assert first.load() is not None
    with resume_point("stage", "abc") as again:
        assert again.load() is not None


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

    with resume_point("stage", "abc") as first:
        first.save({"x": torch.ones(2)}, {"epoch": 1})
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(timeout=0.3)
        assert waiting.is_alive() and not found
        if finished:
            first.forget()
    waiting.join(timeout=10)
    assert not waiting.is_alive()
    assert (found[0] is None) == finished
    assert "waiting for it" in capsys.readouterr().out
