"""Signs that a training run goes wrong: its score, its rewards, its captions' lengths, its gradients.

A sign is only said, so no stage depends on this module. It knows no task: it reads the history of a run, in
which a number that a task lacks is absent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

Row = Mapping[str, float]

# A score or reward that fell by this share of what it was.
FALLEN = 0.1
# Sampled captions that are so much longer or shorter than those of the annotators.
LONGER, SHORTER = 1.5, 0.5
# A mean norm of the gradient that is so many times that of the epochs before.
GROWN = 10.0
# Steps that fp16 skipped, since their gradient was not finite at any scale so far.
SKIPPED = 0.1


@dataclass(frozen=True)
class Watch:
    """What a run is held against.

    Args:
        score_ranges: validation CIDEr-D by epoch: lowest and highest.
        named: the parameter that names the ranges.
        usual_length: mean words of an annotator's caption and its end token; None: not compared.
    """

    score_ranges: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    named: str = ""
    usual_length: float | None = None

    def signs(self, history: Sequence[Row], gradients: Sequence[Row]) -> list[str]:
        """What is wrong with the last epoch, a sentence each.

        Args:
            history: a row per epoch, with `epoch` and what the task reports.
            gradients: a row per epoch of training: `norm`, the mean over its steps, and `skipped`, the share
                of steps whose gradient was not finite.
        """
        found = [
            self._score_out_of_range(history[-1]),
            score_fell_below_start(history),
            reward_fell(history),
            self._length_unusual(history[-1]),
            gradient_strange(gradients),
        ]
        return [sign for sign in found if sign]

    def _score_out_of_range(self, row: Row) -> str | None:
        asked = self.score_ranges.get(int(row["epoch"]))
        if asked is None or "val_CIDEr" not in row:
            return None
        (low, high), score = asked, row["val_CIDEr"]
        if low <= score <= high:
            return None
        cause = (
            "look at the captions, the features and the rate"
            if score < low
            else "look whether validation pictures are among those that are trained on"
        )
        return (
            f"validation CIDEr-D {score:.3f} is outside of {low:g} to {high:g}, the range of {self.named}; "
            f"{cause}, or change the range if other parameters explain it"
        )

    def _length_unusual(self, row: Row) -> str | None:
        if self.usual_length is None or "length" not in row:
            return None
        share = row["length"] / self.usual_length
        if SHORTER <= share <= LONGER:
            return None
        return (
            f"sampled captions have {row['length']:.1f} words on average, end token included, and the "
            f"annotators' {self.usual_length:.1f}: the reward favours "
            f"{'long' if share > 1 else 'short'} captions"
        )


def score_fell_below_start(history: Sequence[Row]) -> str | None:
    """Self-critical training that makes worse captions than it began with."""
    first, last = history[0], history[-1]
    if "reward" not in last or not {"val_CIDEr"} <= first.keys() & last.keys():
        return None
    before, now = first["val_CIDEr"], last["val_CIDEr"]
    if now >= (1 - FALLEN) * before:
        return None
    return (
        f"validation CIDEr-D fell from {before:.3f}, where this training began, to {now:.3f} at a mean "
        f"reward of {last['reward']:.3f}: try a smaller learning rate, and look at what else is rewarded"
    )


def reward_fell(history: Sequence[Row]) -> str | None:
    """A reward that was higher once; it is what the training raises."""
    earlier = [row["reward"] for row in history[:-1] if "reward" in row]
    if not earlier or "reward" not in history[-1]:
        return None
    best, now = max(earlier), history[-1]["reward"]
    if now >= best - FALLEN * abs(best):
        return None
    return f"the mean reward fell from {best:.3f} to {now:.3f}: try a smaller learning rate"


def gradient_strange(gradients: Sequence[Row]) -> str | None:
    """A gradient that vanishes, explodes, or is not finite too often."""
    if not gradients:
        return None
    norm, skipped = gradients[-1]["norm"], gradients[-1]["skipped"]
    if skipped > SKIPPED:
        return f"{skipped:.0%} of the steps were skipped, since their gradients were not finite in fp16"
    if norm == 0:
        return "the gradient of every step was 0: nothing is being trained"
    if len(gradients) > 1:
        usual = median(row["norm"] for row in gradients[:-1])
        if norm > GROWN * usual:
            return (
                f"the mean norm of the gradient rose from {usual:.3g} to {norm:.3g}: try a smaller learning "
                "rate or optimiser.grad_clip_norm"
            )
    return None
