"""Pictures and captions that a CLIP is trained on, and the short phrases that are cut from the captions.

Shapes: N images, B pairs a step, C context length.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from fsgr_model.clip.image_reading import Preprocess, check_files, read_batches
from fsgr_model.config.params import RuntimeParams
from fsgr_model.datasets.normal_form import Split, read_captions, read_images
from fsgr_model.runtime.artifacts import fingerprint
from fsgr_model.runtime.progress import progress
from fsgr_model.text.function_words import FUNCTION_WORDS

Tokenizer = Callable[[list[str]], torch.Tensor]
LONGEST_PHRASE = 3


class Pairs:
    """Images [N, 3, H, W] float16 and, for each, token ids [captions, C] of its captions.

    `said`: the words of all captions of an image in one text, where a phrase is found as a part of it.
    """

    def __init__(
        self,
        dataset: Path,
        split: Split,
        preprocess: Preprocess,
        tokenizer: Tokenizer,
        runtime: RuntimeParams,
    ) -> None:
        records = read_images(dataset, split)
        check_files(records)
        captions = read_captions(dataset)
        batches = read_batches(records, preprocess, runtime.image_batch, runtime.workers)
        total = math.ceil(len(records) / runtime.image_batch)
        shown = progress(batches, total, f"images of {split}", "batches")
        self.images = torch.cat([images.half() for _, images in shown])
        self.tokens = [tokenizer([c.text for c in captions[record.image_id]]) for record in records]
        self.said = ["".join(map(spelled, tokens)) for tokens in self.tokens]
        self.function_tokens = function_tokens(tokenizer)
        self.key = fingerprint([[r.sha256, [c.text for c in captions[r.image_id]]] for r in records])

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, size: int, seed: int, epoch: int) -> list["Step"]:
        """The steps of an epoch: a function of seed and epoch only.

        Every image comes once, with one of its captions and a phrase of one; an incomplete last batch is left
        out.
        """
        draw = np.random.default_rng([seed, epoch])
        order = draw.permutation(len(self))
        captions = [self.tokens[i][draw.integers(len(self.tokens[i]))] for i in order]
        phrases = [
            cut_phrase(self.tokens[i][draw.integers(len(self.tokens[i]))], self.function_tokens, draw)
            for i in order
        ]
        size = min(size, len(self))
        parts = [slice(end - size, end) for end in range(size, len(self) + 1, size)]
        return [
            Step(
                torch.from_numpy(order[part]),
                torch.stack(captions[part]),
                torch.stack(phrases[part]),
                self.said_by(order[part], phrases[part]),
            )
            for part in parts
        ]

    def said_by(self, rows: np.ndarray, phrases: list[torch.Tensor]) -> torch.Tensor:
        """bool [B, B]: whether a caption of the image (row) says the phrase (column)."""
        spellings = [spelled(phrase) for phrase in phrases]
        return torch.tensor([[phrase in self.said[row] for phrase in spellings] for row in rows])


class Step(NamedTuple):
    """`rows_B` of the images; token ids of a caption and of a phrase of each, [B, C]; who says which."""

    rows_B: torch.Tensor
    captions_BC: torch.Tensor
    phrases_BC: torch.Tensor
    said_BB: torch.Tensor


def words_of(tokens_C: torch.Tensor) -> list[int]:
    """The token ids between the start and the end token."""
    return tokens_C[1 : int(tokens_C.argmax())].tolist()


def spelled(tokens_C: torch.Tensor) -> str:
    """These ids as text, each between blanks."""
    return f" {' '.join(map(str, words_of(tokens_C)))} "


def function_tokens(tokenizer: Tokenizer) -> set[int]:
    """The ids of the function words that are one token, and of full stop and comma."""
    words = (words_of(tokens_C) for tokens_C in tokenizer([*sorted(FUNCTION_WORDS), ".", ","]))
    return {ids[0] for ids in words if len(ids) == 1}


def cut_phrase(tokens_C: torch.Tensor, without: set[int], draw: np.random.Generator) -> torch.Tensor:
    """A random run of 1 to 3 tokens of a caption that neither begins nor ends with one of `without`.

    A caption that has no such run comes back whole.
    """
    words = words_of(tokens_C)
    ends = [place for place, word in enumerate(words) if word not in without]
    runs = [(first, last) for first in ends for last in ends if 0 <= last - first < LONGEST_PHRASE]
    if not runs:
        return tokens_C
    first, last = runs[int(draw.integers(len(runs)))]
    phrase_C = torch.zeros_like(tokens_C)
    phrase_C[0] = tokens_C[0]
    phrase_C[1 : last - first + 2] = tokens_C[first + 1 : last + 2]
    phrase_C[last - first + 2] = tokens_C.max()
    return phrase_C
