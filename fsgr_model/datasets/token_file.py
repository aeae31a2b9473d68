"""The tokens of all captions as arrays, `tokens.npz`: what training and the word list read.

The same tokens stand in `captions.json`, which a person can read. There, at COCO's size, Python takes seven
million objects and a quarter of a minute to read them.

Shapes: A images, C captions, F words of all captions in a row.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fsgr_model.runtime.artifacts import load_checked_bytes, whole_file
from fsgr_model.text.caption_table import CaptionTable, Ints, WordTable

TOKENS = "tokens.npz"


@dataclass(frozen=True)
class Tokens:
    """The captions of all images by ascending image id, and the split of each image (int8 [A], its index)."""

    captions: WordTable
    split_A: Ints
    sha256: str

    def of_split(self, split: int) -> WordTable:
        """The captions of the images of a split, given by its index in `SPLITS`, by ascending image id."""
        return self.captions.rows(np.flatnonzero(self.split_A == split))


def save_tokens(path: Path, splits: Mapping[int, int], captions: Sequence[tuple[int, list[str]]]) -> None:
    """Write the captions, pairs of image id and tokens in ascending order of the ids, and the split of each
    image, also by ascending id. Equal content gives equal bytes.
    """
    number_of: dict[str, int] = {}
    word_F = [number_of.setdefault(word, len(number_of)) for _, tokens in captions for word in tokens]
    image_ids = np.fromiter(splits, dtype=np.int64, count=len(splits))
    image_C = np.fromiter((image_id for image_id, _ in captions), dtype=np.int64, count=len(captions))
    row_C = np.searchsorted(image_ids, image_C)
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            words=np.frombuffer(json.dumps(list(number_of), ensure_ascii=False).encode(), dtype=np.uint8),
            image_ids=image_ids,
            split_A=np.fromiter(splits.values(), dtype=np.int8, count=len(splits)),
            captions_A=np.bincount(row_C, minlength=len(splits)),
            words_C=np.fromiter((len(tokens) for _, tokens in captions), dtype=np.int64, count=len(captions)),
            word_F=np.fromiter(word_F, dtype=np.int32, count=len(word_F)),
        )


def load_tokens(path: Path, remedy: str) -> Tokens:
    """Read the file; `remedy` ends an error message.

    Raises:
        UserError: it or its checksum is missing, or a single bit of it has changed since it was written.
    """
    data, sha256 = load_checked_bytes(path, remedy)
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        columns = {name: file[name] for name in file.files}
    words = json.loads(columns.pop("words").tobytes())
    split_A = columns.pop("split_A")
    return Tokens(WordTable(words, CaptionTable(columns.pop("image_ids"), **columns)), split_A, sha256)
