"""Colours for concepts: concepts in the same picture get distinct hues."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
# Far apart in hue, and in lightness where hues are close.
PALETTE: tuple[Colour, ...] = (
    (226, 59, 59),
    (38, 120, 222),
    (249, 183, 29),
    (46, 160, 77),
    (150, 74, 198),
    (25, 190, 200),
    (243, 120, 29),
    (232, 92, 170),
    (140, 205, 50),
    (128, 84, 48),
    (60, 60, 140),
    (120, 130, 140),
)


def concept_colours(label_maps: Sequence[NDArray[np.integer]], concepts: int) -> dict[int, Colour]:
    """A colour for each concept on the maps ([side, side] ids below `concepts`).

    The most frequent concepts choose first; each takes the colour that is rarest among the concepts on the
    same maps, then the one that is rarest on the sheet. Concepts that never meet may share a colour.

    Raises:
        ValueError: a map contains an id that is not a concept.
    """
    on_map = [Counter(int(label) for label in label_map.flat) for label_map in label_maps]
    patches: Counter[int] = sum(on_map, Counter())
    wrong = sorted(label for label in patches if not 0 <= label < concepts)
    if wrong:
        raise ValueError(f"label {wrong[0]} on a map, but there are {concepts} concepts")
    chosen: dict[int, int] = {}
    for label in sorted(patches, key=lambda each: (-patches[each], each)):
        neighbours = {other for counts in on_map if label in counts for other in counts if other in chosen}
        beside = Counter(chosen[other] for other in neighbours)
        anywhere = Counter(chosen.values())
        chosen[label] = min(range(len(PALETTE)), key=lambda place: (beside[place], anywhere[place], place))
    return {label: PALETTE[place] for label, place in chosen.items()}
