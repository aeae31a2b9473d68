"""How much a score would vary with other test images: the bootstrap over images (Koehn, EMNLP 2004).

A score is a function of sums over images: a mean needs two columns, corpus BLEU needs ten. The score of a
resample is then the same function of weighted sums, and two systems can be compared on the same resamples.

Shapes: N images, C columns, R resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 0


@dataclass(frozen=True)
class Statistic:
    """A score of a set of images: `combine` takes sums of `columns_NC` over the images, [..., C] to [...]."""

    columns_NC: Floats
    combine: Callable[[Floats], Floats]

    @property
    def value(self) -> float:
        """The score of all images."""
        return float(self.combine(self.columns_NC.sum(axis=0)))


def ratio(above_N: Floats, below_N: Floats) -> Statistic:
    """Sum over sum; 0 where the lower sum is 0."""
    columns_NC = np.stack([above_N, below_N], axis=1).astype(np.float64)
    return Statistic(columns_NC, lambda sums: sums[..., 0] / np.maximum(sums[..., 1], 1e-12))


def mean(value_N: Floats) -> Statistic:
    """The mean over images."""
    return ratio(value_N, np.ones(len(value_N)))


def resampled(statistics: Sequence[Statistic]) -> list[Floats]:
    """Scores [R] of each statistic on R sets of N images drawn with replacement, the same sets for all.

    Raises:
        ValueError: the statistics are of different numbers of images.
    """
    N = len(statistics[0].columns_NC)
    if any(len(statistic.columns_NC) != N for statistic in statistics):
        raise ValueError("statistics of different numbers of images cannot be resampled together")
    widths = [statistic.columns_NC.shape[1] for statistic in statistics]
    columns_NC = np.concatenate([statistic.columns_NC for statistic in statistics], axis=1)
    draw = np.random.default_rng(SEED)
    sums_RC = np.empty((RESAMPLES, sum(widths)))
    for sums_C in sums_RC:
        times_N = np.bincount(draw.integers(N, size=N), minlength=N)
        np.matmul(times_N.astype(np.float64), columns_NC, out=sums_C)
    parts = np.split(sums_RC, np.cumsum(widths)[:-1], axis=1)
    return [statistic.combine(part) for statistic, part in zip(statistics, parts, strict=True)]


def interval(score_R: Floats) -> tuple[float, float]:
    """The percentile interval that contains 95% of the resamples."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(score_R, [tail, 100 - tail])
    return float(low), float(high)
