"""Canned and rejected captions of VizWiz-Captions (Gurari et al., arXiv 2002.08565).

Its files are COCO's, with two marks on each annotation: `is_precanned`, the sentence that workers chose where
a picture showed nothing ("Quality issues are too severe to recognize visual content."), and `is_rejected`,
spam. VizWiz's own API reads neither (`ignore_precanned` and `ignore_rejected`, both on in its demo:
github.com/Yinan-Zhao/vizwiz-caption); nor do we, wherever an annotation has these marks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from fsgr_model.runtime.listing import listed


class Marked(Protocol):
    """An annotation; null or a missing mark means no."""

    image_id: int
    is_precanned: bool | None
    is_rejected: bool | None


Caption = TypeVar("Caption", bound=Marked)


@dataclass(frozen=True)
class Sifted(Generic[Caption]):
    """The captions that are left; `bare` are the images of which all captions were left out."""

    captions: list[Caption]
    bare: frozenset[int]
    canned: int
    rejected: int

    def note(self, source: str) -> str:
        """What was left out of the file `source`; empty if nothing was."""
        if not self.canned and not self.rejected:
            return ""
        images = f"; images that have no other, left out as well: {listed(sorted(self.bare))}"
        return (
            f"{source}: captions left out, as VizWiz's own API does: {self.canned} canned (is_precanned), "
            f"{self.rejected} rejected (is_rejected)" + (images if self.bare else "")
        )


def sift(captions: Sequence[Caption]) -> Sifted[Caption]:
    """Leave out the captions that are marked; one with both marks counts as rejected."""
    left = [each for each in captions if not each.is_precanned and not each.is_rejected]
    rejected = sum(bool(each.is_rejected) for each in captions)
    bare = {each.image_id for each in captions} - {each.image_id for each in left}
    return Sifted(left, frozenset(bare), len(captions) - len(left) - rejected, rejected)
