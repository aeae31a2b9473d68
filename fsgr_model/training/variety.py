"""Whether the captions of a validation still tell images from each other.

Rewards pay for words that are right of many images, so a network may come to say one safe sentence of most of
them; the mean score hardly shows it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

# Of as many images at least, one caption for so large a share of them is too safe a sentence; and a phase
# that began with a trained network should keep so large a share of its different captions.
ENOUGH_IMAGES = 50
LARGEST_SHARE, SMALLEST_REST = 0.15, 0.7


@dataclass(frozen=True)
class Variety:
    """Of how many images, how many captions differ, and how often the commonest occurs."""

    images: int
    distinct: int
    commonest: str
    times: int

    @classmethod
    def of(cls, captions: Sequence[str]) -> "Variety":
        """That of one caption per image, at least one."""
        [(commonest, times)] = Counter(captions).most_common(1)
        return cls(len(captions), len(set(captions)), commonest, times)

    def one_for_many(self) -> str | None:
        """A warning if one caption is said of a large share of the images."""
        if self.images < ENOUGH_IMAGES or self.times <= LARGEST_SHARE * self.images:
            return None
        return (
            f"{self.times} of the {self.images} validation images have the same caption, {self.commonest!r}: "
            "the network tells few of them apart"
        )

    def fewer_than(self, before: float) -> str | None:
        """A warning if a large share of the different captions that there were before is gone."""
        if self.images < ENOUGH_IMAGES or self.distinct >= SMALLEST_REST * before:
            return None
        return (
            f"{self.distinct} different captions of the {self.images} validation images, {before:.0f} before "
            f"this training; the commonest is {self.commonest!r}, {self.times} times"
        )
