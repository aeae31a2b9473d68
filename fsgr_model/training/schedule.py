"""Learning rates, per epoch as a plain table or per step."""

import math
from typing import Protocol

from fsgr_model.config.training_params import PhaseParams


class Schedule(Protocol):
    """The learning rate of a step. It rises during `warmup_epochs`."""

    warmup_epochs: float

    def __call__(self, epoch: int, step: int, steps: int) -> float:
        """The rate of a step of an epoch with `steps` steps; `epoch` counts from 1, `step` from 0."""


class EpochRates:
    """One rate per epoch: what is printed is what is used."""

    def __init__(self, peak: float, params: PhaseParams) -> None:
        self.rates = rate_table(peak, params)
        self.warmup_epochs: float = params.schedule.warmup_epochs if params.schedule else 0

    def __call__(self, epoch: int, step: int, steps: int) -> float:
        """As `Schedule`."""
        return self.rates[epoch - 1]


class CosineRates:
    """Linear warm-up, then half a cosine to zero at the end; a rate per step."""

    def __init__(self, peak: float, *, epochs: int, warmup_epochs: float) -> None:
        self.peak, self.epochs, self.warmup_epochs = peak, epochs, warmup_epochs

    def __call__(self, epoch: int, step: int, steps: int) -> float:
        """As `Schedule`."""
        warmup = round(self.warmup_epochs * steps)
        done = (epoch - 1) * steps + step
        if done < warmup:
            return self.peak * (done + 1) / warmup
        share = (done - warmup) / max(1, self.epochs * steps - warmup)
        return self.peak * 0.5 * (1 + math.cos(math.pi * share))


def rate_table(peak: float, params: PhaseParams) -> list[float]:
    """The learning rate of every epoch.

    Epoch t (from 1) of w warm-up epochs runs at t / (w + 1) of the peak; after them the last decay step
    that was reached gives the factor.
    """
    return [peak * _factor(epoch, params) for epoch in range(1, params.epochs + 1)]


def _factor(epoch: int, params: PhaseParams) -> float:
    schedule = params.schedule
    if schedule is None:
        return 1.0
    if epoch <= schedule.warmup_epochs:
        return epoch / (schedule.warmup_epochs + 1)
    reached = [step for step in schedule.decay if epoch >= step.epoch]
    return max(reached, key=lambda step: step.epoch).factor if reached else 1.0


def describe_rates(rates: list[float]) -> str:
    """The table of learning rates, as printed before training starts."""
    return describe_by_epoch({"learning rate": rates})


def describe_by_epoch(columns: dict[str, list[float]]) -> str:
    """One line for each run of epochs with the same numbers."""
    rows = list(zip(*columns.values(), strict=True))
    lines = ["  ".join([f"{'epoch':<6}", *columns])]
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or rows[end] != rows[start]:
            span = f"{start + 1}" if end == start + 1 else f"{start + 1}-{end}"
            cells = [f"{value:<{len(name)}.3g}" for name, value in zip(columns, rows[start], strict=True)]
            lines.append("  ".join([f"{span:<6}", *cells]).rstrip())
            start = end
    return "\n".join(lines)
