"""Batches by image: each image occurs once, with all of its captions.

Shapes: B images, S most captions of any image, L longest caption with <bos> and <eos>,
T trunk tokens, G patches, W vision width.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fsgr_model.clip.token_cache import unpack_tokens
from fsgr_model.runtime.row_cache import DiskRows, Rows
from fsgr_model.runtime.row_store import RowStore, groups_of
from fsgr_model.text.vocabulary import PAD

BATCHES_AHEAD = 2
POSITIONS = 8


@dataclass(frozen=True)
class Batch:
    """`image_ids`: B ids; `tokens_BTW`: trunk tokens as rows of the cache
    (`token_cache`), float32 [B, T, W] after `to`; `caption_BSL`: word ids int64, <pad> elsewhere;
    `label_BG`: the label map, int64, where a loss needs it.

    An image with fewer than S captions has rows that are all <pad>, which no loss counts.
    """

    image_ids: list[int]
    tokens_BTW: Tensor
    caption_BSL: Tensor
    label_BG: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device, its tokens in float32; they are copied as they are cached."""
        return Batch(
            self.image_ids,
            unpack_tokens(self.tokens_BTW.to(device, non_blocking=True)),
            self.caption_BSL.to(device, non_blocking=True),
            None if self.label_BG is None else self.label_BG.to(device, non_blocking=True),
        )

    def piece(self, start: int, *, end: int) -> "Batch":
        """The batch of these images; captions keep their padding."""
        of = slice(start, end)
        labels = None if self.label_BG is None else self.label_BG[of]
        return Batch(self.image_ids[of], self.tokens_BTW[of], self.caption_BSL[of], labels)


class CaptionedImages:
    """Images of one split: trunk tokens and, if asked for, label maps in stores; captions as word ids.

    `tokens` reads the tokens, from the store's file unless it is replaced by the same rows in memory.
    `waited`: seconds that the consumer of the last `batches` had to wait for features.
    """

    def __init__(
        self,
        store: RowStore,
        captions: Mapping[int, Sequence[Sequence[int]]],
        shuffle_seed: int | None = None,
        labels: RowStore | None = None,
    ):
        """`shuffle_seed` gives every image the features of another one: a baseline that should lose. Labels
        go with the features.
        """
        self.store = store
        self.tokens: Rows = DiskRows(store)
        self.waited = 0.0
        self.labels = labels
        self.captions = captions
        self.image_ids = sorted(captions)
        self.feature_of = dict(zip(self.image_ids, self._feature_ids(shuffle_seed), strict=True))

    def _feature_ids(self, shuffle_seed: int | None) -> list[int]:
        if shuffle_seed is None:
            return self.image_ids
        order = np.random.default_rng(shuffle_seed).permutation(len(self.image_ids))
        shuffled = np.empty_like(order)
        # The permutation is one cycle through all images, so no image keeps its own features.
        shuffled[order] = np.roll(order, 1)
        return [self.image_ids[index] for index in shuffled]

    def batch(self, image_ids: Sequence[int]) -> Batch:
        """The batch of exactly these images, in this order."""
        if not image_ids:
            return self.batch(self.image_ids[:1]).piece(0, end=0)
        feature_ids = [self.feature_of[image_id] for image_id in image_ids]
        tokens_BTW = self.tokens.tensors(feature_ids)
        label_BG = None
        if self.labels is not None:
            label_BG = torch.from_numpy(self.labels.rows(feature_ids).astype(np.int64))
        captions_BSL = pad_captions([self.captions[image_id] for image_id in image_ids])
        return Batch(list(image_ids), tokens_BTW, captions_BSL, label_BG)

    def batches(self, groups: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """A batch for each group of image ids; the next ones are read while this one is used."""
        self.waited = 0.0
        with ThreadPoolExecutor(max_workers=1) as reader:
            coming = deque(reader.submit(self.batch, group) for group in groups[:BATCHES_AHEAD])
            following = iter(groups[BATCHES_AHEAD:])
            while coming:
                start = time.perf_counter()
                ready = coming.popleft().result()
                self.waited += time.perf_counter() - start
                coming.extend(reader.submit(self.batch, group) for group in islice(following, 1))
                yield ready

    def epoch_groups(self, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
        """The image ids of every batch of an epoch: a function of only seed and epoch."""
        order = np.random.default_rng([seed, epoch]).permutation(self.image_ids)
        return groups_of(order.tolist(), batch_size)

    def groups(self, batch_size: int) -> list[list[int]]:
        """The image ids of every batch in ascending order, for validation and captioning."""
        return groups_of(self.image_ids, batch_size)


def fill_up(caption_BSL: Tensor) -> Tensor:
    """Captions with <pad> up to a multiple of POSITIONS: few shapes occur then where calls are recorded."""
    return F.pad(caption_BSL, (0, -caption_BSL.shape[-1] % POSITIONS), value=PAD)


def pad_captions(captions: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """Captions of B images as one tensor [B, S, L] int64, filled up with <pad>."""
    lengths = [[len(caption) for caption in of_image] for of_image in captions]
    length_BS = np.zeros((len(captions), max(map(len, captions))), dtype=np.int64)
    for length_S, of_image in zip(length_BS, lengths, strict=True):
        length_S[: len(of_image)] = of_image
    padded_BSL = np.full((*length_BS.shape, length_BS.max()), PAD, dtype=np.int64)
    # One assignment for all words: the thread that prefetches keeps Python's lock as briefly as possible.
    words = chain.from_iterable(chain.from_iterable(captions))
    padded_BSL[np.arange(padded_BSL.shape[-1]) < length_BS[..., None]] = np.fromiter(words, dtype=np.int64)
    return torch.from_numpy(padded_BSL)
