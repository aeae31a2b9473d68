"""A run says what goes wrong: scores, rewards, lengths and gradients; a good one says nothing."""

import re

import pytest

from fsgr_model.runtime.run_signs import Watch

WATCH = Watch({1: (1.0, 1.5), 2: (1.2, 1.8)}, named="on_track.xe", usual_length=10.0)
XE = [{"epoch": 0, "val_CIDEr": 0.0}, {"epoch": 1, "val_CIDEr": 1.0, "loss": 2.0}]
SCST = [
    {"epoch": 0, "val_CIDEr": 2.0},
    {"epoch": 1, "val_CIDEr": 2.1, "reward": 1.9, "length": 9.0},
    {"epoch": 2, "val_CIDEr": 1.85, "reward": 1.75, "length": 14.9},
]
STEADY = [{"norm": 2.0, "skipped": 0.0}, {"norm": 9.0, "skipped": 0.1}]


def after(history, gradients=STEADY, **numbers):
    """What is said where the last epoch has these numbers; the ranges are for XE alone."""
    watch = Watch(usual_length=10.0) if "reward" in history[-1] else WATCH
    return watch.signs([*history[:-1], history[-1] | numbers], gradients)


def test_a_good_run_says_nothing() -> None:
    for history in (XE, SCST):
        for epochs in range(1, len(history) + 1):
            assert after(history[:epochs]) == []
    assert WATCH.signs(XE[:1], []) == [] and after(XE, epoch=3, val_CIDEr=0.1) == [], "no range, no sign"


@pytest.mark.parametrize(
    ("history", "numbers", "told"),
    [
        (
            XE,
            {"val_CIDEr": 0.99},
            "0.990 is outside of 1 to 1.5, the range of on_track.xe; look at the captions",
        ),
        (
            XE,
            {"val_CIDEr": 1.51},
            "1.510 is outside of 1 to 1.5, the range of on_track.xe; look whether valid",
        ),
        (
            SCST,
            {"val_CIDEr": 1.79},
            "fell from 2.000, where this training began, to 1.790 at a mean reward of 1.7",
        ),
        (SCST, {"reward": 1.7}, "the mean reward fell from 1.900 to 1.700"),
        (
            SCST,
            {"length": 15.1},
            "have 15.1 words on average, end token included, and the annotators' 10.0: .*long",
        ),
        (SCST, {"length": 4.9}, "have 4.9 words.*short"),
    ],
)
def test_a_number_that_goes_wrong_is_told(history, numbers, told) -> None:
    (sign,) = after(history, **numbers)
    assert re.search(told, sign), sign


@pytest.mark.parametrize(
    ("norms", "skipped", "told"),
    [
        ([2.0, 3.0, 0.0], 0.0, "gradient of every step was 0"),
        ([2.0, 3.0, 26.0], 0.0, "rose from 2.5 to 26"),
        ([2.0], 0.11, "11% of the steps were skipped"),
    ],
)
def test_a_gradient_that_goes_wrong_is_told(norms, skipped, told) -> None:
    (sign,) = after(XE, [{"norm": norm, "skipped": skipped} for norm in norms])
    assert told in sign


def test_penalties_may_make_a_reward_negative() -> None:
    history = [{"epoch": 1, "reward": -0.5}, {"epoch": 2, "reward": -0.54}, {"epoch": 3, "reward": -0.56}]
    assert Watch().signs(history[:2], STEADY) == [] and "fell" in Watch().signs(history, STEADY)[0]
