"""N-grams of 1 to 4 words as single numbers: packing, counting, and finding them among many.

An n-gram is one int64: its word ids plus one, as digits to the base of the number of words plus one. A
shorter n-gram is then a smaller number than any longer one, and zero is not an n-gram.

Shapes: N captions, L positions, F words of all captions in a row, M n-grams, K orders (words of an n-gram
minus one, 0 to 3), O owners: what n-grams belong to, captions or images.
"""

from collections.abc import Iterator
from itertools import pairwise
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray

MAX_ORDER = 4
Ints = NDArray[np.int64]
# No n-gram: it sorts after all of them.
NOTHING = np.iinfo(np.int64).max
# Owners with up to this many n-grams are sorted together, as rows of one width.
WIDTHS = (8, 16, 32, 64, 128, 1024)
# Fibonacci hashing (Knuth, TAOCP 3, 6.4): the upper bits of a product with 2^64 / the golden ratio.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def check_words(word_ids: NDArray[np.integer], num_words: int) -> None:
    """Word ids must be below `num_words`, and four of them fit into an int64.

    Raises:
        ValueError: they are not, or do not.
    """
    if (num_words + 1) ** MAX_ORDER >= 2**63:
        raise ValueError(f"{num_words} words are too many: four of them must fit into an int64")
    if word_ids.size and not 0 <= word_ids.min() <= word_ids.max() < num_words:
        raise ValueError(f"word ids {word_ids.min()} to {word_ids.max()} are not all below {num_words}")


def row_ngrams(caption_NL: Ints, length_N: Ints, num_words: int) -> Ints:
    """The n-grams that start at each position of padded captions, [N, K, L]; NOTHING where none does."""
    N, L = caption_NL.shape
    base = num_words + 1
    key_NKL = np.full((N, MAX_ORDER, L), NOTHING)
    digit_NL = caption_NL + 1
    key_NL = np.zeros((N, L), dtype=np.int64)
    for order in range(min(MAX_ORDER, L)):
        starts = L - order
        key_NL = key_NL[:, :starts] * base + digit_NL[:, order:]
        inside_NL = np.arange(order, L) < length_N[:, None]
        np.copyto(key_NKL[:, order, :starts], key_NL, where=inside_NL)
    return key_NKL


def flat_ngrams(word_F: Ints, caption_F: Ints, num_words: int) -> Iterator[tuple[Ints, Ints]]:
    """Key and caption of every n-gram of captions in a row, order by order: int64 [M] both."""
    base = num_words + 1
    key_F = np.zeros(len(word_F), dtype=np.int64)
    for order in range(min(MAX_ORDER, len(word_F))):
        starts = len(word_F) - order
        key_F = key_F[:starts] * base + word_F[order:] + 1
        inside_F = caption_F[:starts] == caption_F[order:]
        yield key_F[inside_F], caption_F[:starts][inside_F]


def count_rows(key_OM: Ints) -> tuple[Ints, Ints, Ints]:
    """Distinct numbers of each row except NOTHING: keys in ascending order, their rows, and their counts."""
    sorted_OM = np.sort(key_OM, axis=1)
    first_OM = np.ones(sorted_OM.shape, dtype=bool)
    np.not_equal(sorted_OM[:, 1:], sorted_OM[:, :-1], out=first_OM[:, 1:])
    place_M = np.flatnonzero(first_OM)
    count_M = np.diff(place_M, append=sorted_OM.size)
    key_M = sorted_OM.ravel()[place_M]
    real_M = key_M != NOTHING
    return key_M[real_M], place_M[real_M] // max(key_OM.shape[1], 1), count_M[real_M]


def count_flat(key_M: Ints, owner_M: Ints, num_owners: int) -> tuple[Ints, Ints, Ints]:
    """Distinct (owner, key) pairs, keys ascending within an owner, and their counts; owners must ascend."""
    size_O = np.bincount(owner_M, minlength=num_owners)
    within_M = np.arange(len(owner_M)) - (np.cumsum(size_O) - size_O)[owner_M]
    parts = []
    for least, most in pairwise((0, *WIDTHS, np.inf)):
        owners = np.flatnonzero((size_O > least) & (size_O <= most))
        row_O = np.full(num_owners, -1)
        row_O[owners] = np.arange(len(owners))
        of_M = np.flatnonzero(row_O[owner_M] >= 0)
        padded = np.full((len(owners), size_O[owners].max(initial=0)), NOTHING)
        padded[row_O[owner_M[of_M]], within_M[of_M]] = key_M[of_M]
        keys, rows, counts = count_rows(padded)
        parts.append((keys, owners[rows], counts))
    keys, owners, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
    return keys, owners, counts


class KeyIndex:
    """Finds numbers among those of a group: hashed into buckets, more of these than numbers.

    `keys`: int64 [M], by bucket; `find` gives indices into it. Each group has 2^`bits` buckets; bucket b
    begins at index `start`[b], and the fullest one has `deepest` keys. `order`: where each key came from.
    """

    def __init__(self, key_M: Ints, group_M: Ints | int = 0, num_groups: int = 1) -> None:
        """Pairs of key and group must differ."""
        self.bits = 1 + ceil(log2(len(key_M) / max(num_groups, 1) + 1))
        bucket_M = self._buckets(key_M, group_M)
        self.order = np.argsort(bucket_M, kind="stable")
        self.keys = key_M[self.order]
        sizes = np.bincount(bucket_M, minlength=num_groups << self.bits)
        self.deepest = int(sizes.max(initial=0))
        assert len(key_M) < 2**31
        self.start = np.zeros(len(sizes) + 1, dtype=np.int32)
        np.cumsum(sizes, out=self.start[1:])

    def find(self, key_M: Ints, group_M: Ints | int = 0) -> Ints:
        """The index of each key of a group in `keys`; -1 where it is absent."""
        bucket_M = self._buckets(key_M, group_M)
        place_M, end_M = self.start[bucket_M], self.start[bucket_M + 1]
        found_M = np.full(len(key_M), -1)
        open_M = np.flatnonzero(place_M < end_M)
        place_M, end_M, key_M = place_M[open_M], end_M[open_M], key_M[open_M]
        while len(open_M):
            hit_M = self.keys[place_M] == key_M
            found_M[open_M[hit_M]] = place_M[hit_M]
            place_M += 1
            left_M = ~hit_M & (place_M < end_M)
            open_M, place_M, end_M, key_M = open_M[left_M], place_M[left_M], end_M[left_M], key_M[left_M]
        return found_M

    def _buckets(self, key_M: Ints, group_M: Ints | int) -> Ints:
        hashed_M = (key_M.view(np.uint64) * GOLDEN) >> np.uint64(64 - self.bits)
        return (group_M << self.bits) + hashed_M.view(np.int64)
