"""Times are measured within a budget, and hours follow from them."""

import time
from collections import Counter

import pytest

from fsgr_model.checkup.dataset import DatasetSize
from fsgr_model.checkup.pictures import Decoding
from fsgr_model.checkup.timing import stage_seconds, timed
from fsgr_model.config.params import load_params
from tests.checkup.conftest import ROOT


class Clock:
    """A step that takes `seconds_each` an image by a clock that nobody waits for."""

    def __init__(self, seconds_each: float) -> None:
        self.now, self.seconds_each = 0.0, seconds_each
        self.asked: list[int] = []

    def step(self, images: int) -> None:
        self.asked.append(images)
        self.now += self.seconds_each * images


@pytest.mark.parametrize(
    ("seconds_each", "asked"),
    [(0.01, [1, 1, 20]), (1.0, [1, 1, 3]), (4.0, [1]), (1000.0, [1])],
)
def test_a_step_is_timed_within_its_budget(
    monkeypatch: pytest.MonkeyPatch, seconds_each: float, asked: list[int]
) -> None:
    clock = Clock(seconds_each)
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    found = timed(clock.step, images=20, budget=5.0)
    assert clock.asked == asked and found.images == asked[-1]
    assert found.seconds == pytest.approx(20 * seconds_each)
    assert clock.now <= max(5.0, seconds_each)


def test_hours_follow_from_steps() -> None:
    """By hand, for 90 + 30 + 30 images."""
    params = load_params(ROOT / "presets" / "coco.yaml")  # batches of 20, features 256, 16 workers, 20 epochs
    size = DatasetSize({"train": 90, "val": 30, "test": 30}, 5, 9, Counter(), 750, decoding=Decoding(8, 3.2))
    step = {"features": 256.0, "labels": 25.6, "validation": 2.0, "XE": 1.0, "SCST": 10.0}
    assert stage_seconds(size, params, step) == pytest.approx(
        {
            "dataset": 150 * 3.2 / 16,
            "features": 150.0,
            "labels": 15.0,
            "train_xe": 20 * (5 * 1.0 + 1.5 * 2.0),
            "train_scst": 20 * (5 * 10.0 + 1.5 * 2.0),
        }
    )
