"""A run can be watched while it trains: its curve grows epoch by epoch, and it tells how far it is."""

import json
from dataclasses import replace

import pytest
import torch

from fsgr_model.config.on_track_params import ScoreRange
from fsgr_model.runtime.live_report import LIVE, LiveReport
from fsgr_model.training.loop import Loop
from pipeline.train_xe import train_xe


def test_the_curve_grows_while_training_runs(run_in, model_params, xe_params, monkeypatch):
    """After each epoch the file holds what it will begin with at the end."""
    run = run_in("watched")
    seen, told = [], []
    plain = Loop._report

    def report(self):
        plain(self)
        seen.append(run.curve.read_text())
        told.append(json.loads((self.resume.folder / LIVE).read_text()))

    monkeypatch.setattr(Loop, "_report", report)
    train_xe(run, 1e-3, model_params, xe_params)
    whole = run.curve.read_text()
    assert [len(text.splitlines()) for text in seen] == [2, 3, 4, 5], "a header, then epochs 0 to 3"
    assert seen[-1] == whole and all(whole.startswith(text) for text in seen[1:])
    assert [each["done"] for each in told] == [0, 1, 2, 3] and told[0]["epochs"] == 3
    assert told[0]["seconds_left"] is None and told[1]["seconds_left"] > 0 == told[3]["seconds_left"]
    assert [row["epoch"] for row in told[3]["history"]] == [0, 1, 2, 3]
    assert all(sample["caption"] for sample in told[3]["samples"]) and told[3]["samples"]
    assert not list((run.out.parent / ".resume").iterdir()), "it goes with the resume point"


def test_what_is_not_finite_is_left_out_and_the_time_left_is_of_this_run(tmp_path, monkeypatch):
    clock = iter([0.0, 100.0, 160.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    report = LiveReport(tmp_path, "XE", epochs=10)
    report.write(4.0, [{"loss": float("nan")}])
    report.write(4.5, [{"loss": 1.0}], [(7, "a dog")])
    told = json.loads((tmp_path / LIVE).read_text())
    assert told["seconds_left"] == pytest.approx(5.5 * 60 / 0.5)
    assert told["samples"] == [{"image_id": 7, "caption": "a dog"}] and told["history"] == [{"loss": 1.0}]


def test_what_goes_wrong_is_said_and_kept_for_whoever_watches(
    run_in, model_params, xe_params, monkeypatch, capsys
):
    """The gradients of this run are all 0, and its scores are not those that were expected."""
    told = []
    plain = Loop._report

    def report(self):
        plain(self)
        told.append(json.loads((self.resume.folder / LIVE).read_text())["warnings"])

    monkeypatch.setattr(Loop, "_report", report)
    monkeypatch.setattr("fsgr_model.training.optimiser.Optimiser.gradient_norm", lambda self: torch.zeros(()))
    expected = [ScoreRange(epoch=2, low=8.0, high=9.0)]
    run = replace(run_in("warned"), expected=expected)
    train_xe(run, 1e-3, model_params, xe_params)
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    zero = "the gradient of every step was 0: nothing is being trained"
    assert told[0] == [] and told[1] == [f"epoch 1: {zero}"]
    assert "is outside of 8 to 9, the range of on_track.xe" in told[2][1] and len(told[-1]) == 4
    assert printed == [f"warning: XE {each}" for each in told[-1]]
