"""Captions of many images as a few arrays: at COCO's size, lists of words would be seven million objects.

Shapes: A images, C captions, F words of all captions in a row, W different words.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer]


def places(first: Ints, size: Ints) -> Ints:
    """The indices of runs in a row, one after the other: first[0], first[0] + 1, ... size[0] of them, ..."""
    shift = first - (np.cumsum(size) - size)
    return np.repeat(shift, size) + np.arange(int(size.sum()))


class CaptionTable(Mapping[int, list[list[int]]]):
    """Image id -> its captions, each a list of numbers of words; read-only.

    `image_ids`: int64 [A]; `captions_A`: how many captions an image has; `words_C`: how many words a caption
    has; `word_F`: the numbers of the words, image by image and caption by caption.
    """

    def __init__(self, image_ids: Ints, *, captions_A: Ints, words_C: Ints, word_F: Ints) -> None:
        self.image_ids, self.captions_A, self.words_C, self.word_F = image_ids, captions_A, words_C, word_F
        self.caption_start = np.append(0, np.cumsum(captions_A))
        self.word_start = np.append(0, np.cumsum(words_C))

    @classmethod
    def of(cls, captions: Mapping[int, Sequence[Sequence[int]]]) -> "CaptionTable":
        """The table of any mapping; a table is returned as it is."""
        if isinstance(captions, cls):
            return captions
        flat = list(chain.from_iterable(captions.values()))
        return cls(
            np.fromiter(captions, dtype=np.int64, count=len(captions)),
            captions_A=np.fromiter(map(len, captions.values()), dtype=np.int64),
            words_C=np.fromiter(map(len, flat), dtype=np.int64),
            word_F=np.fromiter(chain.from_iterable(flat), dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.image_ids)

    def __iter__(self) -> Iterator[int]:
        return iter(self.image_ids.tolist())

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._row_of

    def __getitem__(self, image_id: int) -> list[list[int]]:
        row = self._row_of[image_id]
        starts = self.word_start[self.caption_start[row] : self.caption_start[row + 1] + 1]
        return [self.word_F[start:end].tolist() for start, end in pairwise(starts.tolist())]

    @cached_property
    def _row_of(self) -> dict[int, int]:
        return {image_id: row for row, image_id in enumerate(self)}

    def rows(self, row_A: Ints) -> "CaptionTable":
        """The images of these rows, in this order."""
        captions_A = self.captions_A[row_A]
        caption_C = places(self.caption_start[row_A], captions_A)
        words_C = self.words_C[caption_C]
        word_F = self.word_F[places(self.word_start[caption_C], words_C)]
        return CaptionTable(self.image_ids[row_A], captions_A=captions_A, words_C=words_C, word_F=word_F)

    def of_images(self, image_ids: Sequence[int]) -> "CaptionTable":
        """These images, in this order.

        Raises:
            KeyError: an image is not in the table.
        """
        return self.rows(np.array([self._row_of[image_id] for image_id in image_ids], dtype=np.int64))

    def words_per_image(self) -> Ints:
        """Words of all captions of each image, int64 [A]."""
        return self.word_start[self.caption_start[1:]] - self.word_start[self.caption_start[:-1]]


class WordTable(Mapping[int, list[list[str]]]):
    """Image id -> its captions, each a list of words. `words`: the different words; `table` has their places.

    A table of some of the images keeps the words of all, so a word need not occur.
    """

    def __init__(self, words: Sequence[str], table: CaptionTable) -> None:
        self.words, self.table = words, table

    @classmethod
    def of(cls, captions: Mapping[int, Sequence[Sequence[str]]]) -> "WordTable":
        """The table of any mapping."""
        number_of: dict[str, int] = {}
        numbers = {
            image_id: [[number_of.setdefault(word, len(number_of)) for word in words] for words in of_image]
            for image_id, of_image in captions.items()
        }
        return cls(list(number_of), CaptionTable.of(numbers))

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[int]:
        return iter(self.table)

    def __getitem__(self, image_id: int) -> list[list[str]]:
        return [[self.words[number] for number in caption] for caption in self.table[image_id]]

    def rows(self, row_A: Ints) -> "WordTable":
        """The images of these rows, in this order."""
        return WordTable(self.words, self.table.rows(row_A))

    def counts(self) -> Counter[str]:
        """How often each word occurs; only those that do."""
        counts = np.bincount(self.table.word_F, minlength=len(self.words)).tolist()
        return Counter({word: count for word, count in zip(self.words, counts, strict=True) if count})

    def __repr__(self) -> str:
        return repr(dict(self))

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Mapping) and dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]
