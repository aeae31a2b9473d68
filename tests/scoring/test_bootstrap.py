"""Intervals hold what they promise, and the statistics are the official scores."""

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu

from fsgr_model.scoring.bootstrap import interval, mean, resampled
from fsgr_model.scoring.coco_metrics import score_captions
from fsgr_model.scoring.image_scores import ImageScores

WORDS = ["a", "dog", "cat", "runs", "on", "the", "beach", "sleeps"]


def sentences(draw: np.random.Generator, count: int, longest: int) -> list[str]:
    return [" ".join(draw.choice(WORDS, draw.integers(1, longest))) for _ in range(count)]


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    value_N = np.random.default_rng(1).normal(5, 2, 400)
    low, high = interval(resampled([mean(value_N)])[0])
    spread = 1.96 * value_N.std() / 20
    assert (low, high) == pytest.approx((value_N.mean() - spread, value_N.mean() + spread), abs=0.03)


@pytest.mark.slow
def test_ninety_five_of_a_hundred_intervals_hold_the_true_mean() -> None:
    draw = np.random.default_rng(2)
    ends = [interval(resampled([mean(draw.exponential(1, 60))])[0]) for _ in range(100)]
    assert 86 <= sum(low <= 1 <= high for low, high in ends) <= 99


def test_systems_are_resampled_together() -> None:
    """Images differ much, the systems by the same on each: the difference is sure though no score is."""
    value_N = np.random.default_rng(3).normal(0, 10, 100)
    a_R, b_R = resampled([mean(value_N), mean(value_N + 0.5)])
    np.testing.assert_allclose(b_R - a_R, 0.5)
    assert np.ptp(a_R) > 1


def test_the_same_images_are_drawn_every_time() -> None:
    value_N = np.arange(30.0)
    alone, among_others = resampled([mean(value_N)])[0], resampled([mean(value_N), mean(value_N**2)])[0]
    assert np.array_equal(alone, among_others)


def test_different_numbers_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match="different numbers"):
        resampled([mean(np.ones(3)), mean(np.ones(4))])


def test_bleu_of_a_resample_is_bleu_of_its_captions() -> None:
    """Sums of counts against the official scorer, run on captions that are really repeated."""
    draw = np.random.default_rng(4)
    references = {image_id: sentences(draw, 3, 12) for image_id in range(20)}
    results = {image_id: sentences(draw, 1, 9)[0] for image_id in range(20)}
    report = score_captions(references, results, "off")
    scores = ImageScores(list(results), list(results.values()), report.columns, "", "")
    drawn = draw.integers(20, size=20)
    truth = {row: references[int(image_id)] for row, image_id in enumerate(drawn)}
    found = {row: [results[int(image_id)]] for row, image_id in enumerate(drawn)}
    official, _ = Bleu(4).compute_score(truth, found, verbose=0)
    for order in (1, 2, 3, 4):
        statistic = scores.statistics()[f"Bleu_{order}"]
        assert statistic.value == pytest.approx(report.metrics[f"Bleu_{order}"], rel=1e-9)
        again = statistic.combine(statistic.columns_NC[drawn].sum(axis=0))
        assert float(again) == pytest.approx(official[order - 1], rel=1e-9)
