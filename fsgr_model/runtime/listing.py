"""Lists within a message: the first items in full, then the number of the others."""

from collections.abc import Sequence

SHOWN = 20


def listed(items: Sequence[object]) -> str:
    """`a, b, c and 4 more`; at most 20 items are written out."""
    text = "; ".join(str(item) for item in items[:SHOWN])
    return text if len(items) <= SHOWN else f"{text} and {len(items) - SHOWN} more"
