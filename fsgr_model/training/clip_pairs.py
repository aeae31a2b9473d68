"""Pictures and captions that a CLIP is trained on, and the short phrases that are cut from the captions.

Shapes: N images, B pairs per step, C context length.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fsgr_model.clip.image_reading import Preprocess, check_files
from fsgr_model.config.params import RuntimeParams
from fsgr_model.datasets.normal_form import CaptionRecord, ImageRecord
from fsgr_model.runtime.artifacts import fingerprint
from fsgr_model.runtime.world import ALONE, World
from fsgr_model.text.function_words import FUNCTION_WORDS
from fsgr_model.training.clip_pictures import read_pictures

Tokenizer = Callable[[list[str]], torch.Tensor]
LONGEST_PHRASE = 3


@dataclass(frozen=True)
class PairBatch:
    """`image_BCHW`: pictures; token ids of a caption and of a phrase of each, int64 [B, C], on the CPU;
    `said_BB`: whether a caption of the image (row) says the phrase (column). Of several processes, each has
    its images as rows and the phrases of all as columns.
    """

    image_ids: list[int]
    image_BCHW: torch.Tensor
    caption_BC: torch.Tensor
    phrase_BC: torch.Tensor
    said_BB: torch.Tensor

    def to(self, device: torch.device) -> "PairBatch":
        """Pictures, in float32, and `said_BB` on a device; token ids stay on the CPU, to be renumbered."""
        images = self.image_BCHW.to(device, non_blocking=True).float()
        return replace(self, image_BCHW=images, said_BB=self.said_BB.to(device))

    def piece(self, start: int, *, end: int) -> "PairBatch":
        """The batch of these pairs."""
        of = slice(start, end)
        return PairBatch(
            self.image_ids[of],
            self.image_BCHW[of],
            self.caption_BC[of],
            self.phrase_BC[of],
            self.said_BB[of, of],
        )


@dataclass(frozen=True)
class PairGroup:
    """The content of a step: rows of the images, and the token ids that were drawn for them.

    A slice of it, a process's share, still has the phrases of the whole step in `compared`.
    """

    rows: NDArray[np.int64]
    captions: list[torch.Tensor]
    phrases: list[torch.Tensor]
    compared: list[torch.Tensor]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> "PairGroup":
        return replace(self, rows=self.rows[part], captions=self.captions[part], phrases=self.phrases[part])


class Pairs:
    """Pictures of N images and, for each, token ids [captions, C] of its captions.

    `said`: the words of all captions of an image in one text; a phrase is said if it is a substring.
    """

    waited = None  # the pictures are in memory

    def __init__(
        self,
        records: Sequence[ImageRecord],
        captions: Mapping[int, Sequence[CaptionRecord]],
        preprocess: Preprocess,
        tokenizer: Tokenizer,
        *,
        runtime: RuntimeParams,
        shared: Path | None = None,
        world: World = ALONE,
    ) -> None:
        """Of several processes, each decodes some of the pictures into the file `shared`, which all read."""
        check_files(records)
        self.image_ids = [record.image_id for record in records]
        self.pictures = read_pictures(records, preprocess, runtime, shared=shared, world=world)
        self.tokens = [tokenizer([c.text for c in captions[image_id]]) for image_id in self.image_ids]
        self.said = ["".join(map(ids_as_text, tokens)) for tokens in self.tokens]
        self.function_tokens = function_tokens(tokenizer)

    def __len__(self) -> int:
        return len(self.image_ids)

    def epoch_groups(self, batch_size: int, *, seed: int, epoch: int) -> list[PairGroup]:
        """The content of each step of an epoch: a function of only seed and epoch.

        Every image occurs once, with one of its captions and a phrase of one; an incomplete last batch is
        left out.
        """
        draw = np.random.default_rng([seed, epoch])
        order = draw.permutation(len(self))
        captions = [self.tokens[i][draw.integers(len(self.tokens[i]))] for i in order]
        phrases = [
            cut_phrase(self.tokens[i][draw.integers(len(self.tokens[i]))], self.function_tokens, draw)
            for i in order
        ]
        size = min(batch_size, len(self))
        parts = [slice(end - size, end) for end in range(size, len(self) + 1, size)]
        return [PairGroup(order[part], captions[part], phrases[part], phrases[part]) for part in parts]

    def batches(self, groups: Sequence[PairGroup]) -> Iterator[PairBatch]:
        """A batch for each group."""
        for group in groups:
            image_ids = [self.image_ids[row] for row in group.rows]
            yield PairBatch(
                image_ids,
                self.pictures.tensors(image_ids),
                torch.stack(group.captions),
                torch.stack(group.phrases),
                self.said_by(group.rows, group.compared),
            )

    def said_by(self, rows: NDArray[np.int64], phrases: Sequence[torch.Tensor]) -> torch.Tensor:
        """bool [B, B]: whether a caption of the image (row) says the phrase (column)."""
        spellings = [ids_as_text(phrase) for phrase in phrases]
        return torch.tensor([[phrase in self.said[row] for phrase in spellings] for row in rows])


def pairs_key(records: Sequence[ImageRecord], captions: Mapping[int, Sequence[CaptionRecord]]) -> str:
    """Changes with the pictures and captions of a training."""
    return fingerprint([[r.sha256, [c.text for c in captions[r.image_id]]] for r in records])


def words_of(tokens_C: torch.Tensor) -> list[int]:
    """The token ids between the start and the end token."""
    return tokens_C[1 : int(tokens_C.argmax())].tolist()


def ids_as_text(tokens_C: torch.Tensor) -> str:
    """These ids as text, each between spaces."""
    return f" {' '.join(map(str, words_of(tokens_C)))} "


def function_tokens(tokenizer: Tokenizer) -> set[int]:
    """The ids of the function words that are one token, and of full stop and comma."""
    words = (words_of(tokens_C) for tokens_C in tokenizer([*sorted(FUNCTION_WORDS), ".", ","]))
    return {ids[0] for ids in words if len(ids) == 1}


def cut_phrase(tokens_C: torch.Tensor, without: set[int], draw: np.random.Generator) -> torch.Tensor:
    """A random run of 1 to 3 tokens of a caption that neither begins nor ends with one of `without`.

    A caption without such a run is returned whole.
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
