"""Captions of prepared pictures, whatever computes the network: PyTorch (`image_captioner`) or ONNX
(`onnx_captioner`).

Shapes: B images, S captions per image, L positions, G patches, V words; maps are [S, S].
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fsgr_model.config.decode_params import DecodeParams, captions_asked, changed, one_way
from fsgr_model.config.params import Params
from fsgr_model.inference.captioning import speak
from fsgr_model.inference.decoding import State, Step, caption_log_probs, preceding_words
from fsgr_model.inference.wishes import understand
from fsgr_model.network.decoder import DecoderState, LayerState
from fsgr_model.runtime.device import autocast
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.precision import Precision
from fsgr_model.text.vocabulary import EOS, PAD, Vocabulary

Region = tuple[float, float, float, float]
"""Left, top, right, bottom, 0 to 1, of what CLIP sees of a picture."""


@dataclass(frozen=True)
class Caption:
    """A caption, the ids of its words, and the natural logarithm of its probability, end token included.

    `word_probabilities`: that of each word after the words before it; 0 to 1, of all words that a caption may
    have. `words` are the words themselves, as the vocabulary spells them.

    `word_log_probabilities` are the parts of `log_probability`: of each word, and of the end token if there
    is one. All are those of the network, whatever wishes and temperature the caption was made with.
    """

    text: str
    word_ids: list[int]
    log_probability: float
    words: list[str]
    word_probabilities: list[float]
    word_log_probabilities: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class DescribedImage:
    """Captions of an image, and the concept that the quantiser gave each patch: [S, S], first row on top.

    There are no concepts without `model.semantics`.
    """

    captions: list[Caption]
    concept_SS: NDArray[np.int64] | None


@dataclass(frozen=True)
class Voice:
    """What says captions of encoded images: one network, or several together.

    `read`: words [B, S, L] to logits [B, S, L, V] of those that follow each.
    """

    step: Step
    start: State
    read: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Seen:
    """Encoded images: where the decoder starts, and the concept of every patch, int64; None without."""

    start: DecoderState
    concept_BG: Tensor | None


@dataclass(frozen=True)
class About:
    """What is known of a network, whatever computes it.

    `concepts`: the names of the codebook. `grid_size`: rows and columns of patches. `crops_centre`: CLIP sees
    only the middle of a picture. `identity`: JSON-like, tells its pictures' CLIP from all others.
    """

    vocabulary: Vocabulary
    concepts: list[str]
    grid_size: tuple[int, int]
    device: torch.device
    crops_centre: bool
    identity: Any


def refuse_at_once(params: Params, wishes: Mapping[str, Any]) -> None:
    """Refuse what cannot be asked of any network, before the seconds that one takes to load.

    Raises:
        UserError: as `Describer`.
    """
    captions_asked(changed(params.decode, wishes.get("decode") or {}), wishes.get("n_best"))


class Describer(ABC):
    """Captions prepared pictures as `decode` asks for them.

    Args:
        about: the network; its class computes it.
        params: the parameters of the run that trained it.
        decode: what differs from the model's own parameters of decoding, by dotted name below `decode`
            (`length.min_words`).
        n_best: captions of an image, the best first; by default one, of diverse groups the best of each, of
            samples without consensus all.
        seed: the seed of these draws; they are a function of seed and picture, whatever else is captioned.

    Raises:
        UserError: `decode` cannot be, or has not so many captions.
    """

    # Why there are no label maps and no attention, where there are none.
    no_maps: str | None = None

    def __init__(
        self,
        about: About,
        params: Params,
        *,
        decode: Mapping[str, Any] | None = None,
        n_best: int | None = None,
        seed: int = 0,
    ) -> None:
        self.vocabulary, self.concepts, self.device = about.vocabulary, about.concepts, about.device
        self.grid_size, self.crops_centre, self.identity = about.grid_size, about.crops_centre, about.identity
        self.own_decode: DecodeParams = changed(params.decode, decode or {})
        self.precision: Precision = params.precision
        self.batch_size = params.runtime.caption_batch
        self._choose(self.own_decode, n_best, seed)
        self.region_N: Tensor | None = None

    def _choose(self, decode: DecodeParams, n_best: int | None, seed: int) -> None:
        self.decode, self.seed = decode, seed
        self.num_captions = captions_asked(decode, n_best)
        self.guidance = understand(decode, self.vocabulary, self.device)

    def with_options(
        self,
        *,
        beam_size: int | None = None,
        samples: int | None = None,
        n_best: int | None = None,
        decode: Mapping[str, Any] | None = None,
        seed: int = 0,
        region: Region | None = None,
    ) -> Self:
        """The same network, with the options of decoding chosen anew; nothing is loaded or copied.

        Args:
            region: captions look at the patches that this part of the picture touches, and at no others.
                What a patch means was found in the whole picture.

        Raises:
            UserError: `decode` cannot be, or has not so many captions.
        """
        other = copy(self)
        changes = {**one_way(beam_size, samples), **(decode or {})}
        other._choose(changed(self.own_decode, changes), n_best, seed)
        other.region_N = None if region is None else self._patches(region)
        return other

    @abstractmethod
    def prepare(self, picture: Image.Image) -> Tensor:
        """A picture that `image_file.open_rgb` opened, as CLIP sees it: float32 [3, height, width]."""

    @abstractmethod
    def encode(self, images: Sequence[Tensor]) -> Seen:
        """Prepared images as the decoder needs them."""

    @abstractmethod
    def step(self, word_BS: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Read one more word of every caption: logits [B, S, V] and the new state. Fits `decoding.Step`."""

    @abstractmethod
    def read(self, word_BSL: Tensor, start: DecoderState) -> Tensor:
        """Logits [B, S, L, V] of the word that follows each given word."""

    def check_maps(self) -> None:
        """Refuse to go on where there are no label maps and no attention.

        Raises:
            UserError: what computes the network has none.
        """
        if self.no_maps is not None:
            raise UserError(self.no_maps)

    @abstractmethod
    def label_map(self, image: Tensor) -> NDArray[np.int64]:
        """MaskCLIP's concept of each patch, [S, S], as the stage `labels` makes it.

        Raises:
            UserError: what computes the network has no label maps.
        """

    @abstractmethod
    def attention(self, image: Tensor, caption: Caption) -> NDArray[np.float32]:
        """Where the network looks when it chooses each word: [L, S, S], each map sums to 1.

        Raises:
            UserError: what computes the network has no attention maps.
        """

    @abstractmethod
    def weights(self) -> Mapping[str, Tensor]:
        """What captions depend on beside `identity`, by name."""

    def describe(self, images: Sequence[Tensor]) -> list[DescribedImage]:
        """Captions of prepared images."""
        seen = self.encode(images)
        start = self.looked_at(seen.start)
        voice = Voice(self.step, start, lambda word_BSL: self.read(word_BSL, start))
        return self.spoken(images, voice, seen.concept_BG)

    @torch.no_grad()
    def spoken(
        self, images: Sequence[Tensor], voice: Voice, concept_BG: Tensor | None
    ) -> list[DescribedImage]:
        """What `voice` says of prepared images, as `decode` has it."""
        with autocast(self.device, self.precision):
            caption_BSL = speak(
                voice.step,
                voice.start,
                len(images),
                decode=self.decode,
                guidance=self.guidance,
                seeds=[self._seed_of(image) for image in images] if self.decode.sampling else (),
            )[:, : self.num_captions]
            logits_BSLV = voice.read(preceding_words(caption_BSL))
        log_prob_BSL = caption_log_probs(logits_BSLV, caption_BSL)
        captions = [
            [self._caption(*each) for each in zip(*of_image, strict=True) if each[0][0] != PAD]
            for of_image in zip(caption_BSL.tolist(), log_prob_BSL.tolist(), strict=True)
        ]
        if concept_BG is None:
            return [DescribedImage(of_image, None) for of_image in captions]
        return list(map(DescribedImage, captions, self.grid(concept_BG.cpu().numpy())))

    def looked_at(self, start: DecoderState) -> DecoderState:
        """The state before any word, of the patches of the region that was asked for."""
        return start if self.region_N is None else only_patches(start, self.region_N)

    def _patches(self, region: Region) -> Tensor:
        """The indices of the patches that a region touches, at least one, [N] int64."""
        rows, columns = self.grid_size
        left, top, right, bottom = region
        touched_SS = torch.zeros(rows, columns, dtype=torch.bool)
        row, column = min(int(top * rows), rows - 1), min(int(left * columns), columns - 1)
        below, beyond = max(math.ceil(bottom * rows), row + 1), max(math.ceil(right * columns), column + 1)
        touched_SS[row:below, column:beyond] = True
        return touched_SS.flatten().nonzero()[:, 0].to(self.device)

    def _seed_of(self, image: Tensor) -> int:
        """A function of `seed` and the pixels of a prepared image."""
        digest = hashlib.sha256(image.cpu().numpy().tobytes() + str(self.seed).encode()).digest()
        return int.from_bytes(digest[:8]) >> 1

    def grid(self, of_patches: NDArray[Any]) -> NDArray[Any]:
        """The last axis, G patches, as rows and columns."""
        rows, columns = self.grid_size
        return of_patches.reshape(*of_patches.shape[:-1], rows, columns)

    def _caption(self, caption_L: list[int], log_prob_L: list[float]) -> Caption:
        vocabulary = self.vocabulary
        word_ids = list(takewhile(lambda word: word not in (EOS, PAD), caption_L))
        said = log_prob_L[: len(word_ids) + (EOS in caption_L)]
        return Caption(
            text=vocabulary.decode(word_ids),
            word_ids=word_ids,
            log_probability=sum(said),
            words=[vocabulary.words[number] for number in word_ids],
            word_probabilities=[math.exp(each) for each in said[: len(word_ids)]],
            word_log_probabilities=said,
        )


def only_patches(start: DecoderState, patch_N: Tensor) -> DecoderState:
    """The state before any word, of captions that look at some of the patches only; indices int64."""
    layers = [
        LayerState(layer.image_keys[:, :, patch_N], layer.image_values[:, :, patch_N])
        for layer in start.layers
    ]
    return DecoderState(tuple(layers))
