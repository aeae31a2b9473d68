"""Captions of image files without any cache: trunk, tail and decoder run together.

Shapes: B images, S captions per image, L positions, Q = S * L words of an image's captions, T trunk tokens,
W vision width, G patches, H heads, C width per head; maps are [S, S].
"""

import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from fsgr_model.clip.maskclip import label_patches
from fsgr_model.clip.token_cache import round_tokens
from fsgr_model.clip.towers import make_tail, make_trunk
from fsgr_model.config.decode_params import DecodeParams, captions_asked, changed, one_way
from fsgr_model.config.params import LabelsParams
from fsgr_model.inference.captioning import speak
from fsgr_model.inference.decoding import State, Step, caption_log_probs, preceding_words
from fsgr_model.inference.model_folder import ModelFiles
from fsgr_model.inference.wishes import understand
from fsgr_model.kernels.inference import speed_up_inference
from fsgr_model.network.assembly import restore
from fsgr_model.network.attention import MultiHeadAttention
from fsgr_model.network.captioner import Encoded
from fsgr_model.network.decoder import CaptionDecoder, DecoderLayer, DecoderState, LayerState
from fsgr_model.runtime.device import autocast, pick_device, tf32_products
from fsgr_model.text.vocabulary import EOS, PAD

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


class ImageCaptioner:
    """A trained network that captions pictures.

    Args:
        files: the paths of the network.
        decode: what differs from the model's own parameters of decoding, by dotted name below `decode`
            (`length.min_words`).
        n_best: captions of an image, the best first; by default one, of diverse groups the best of each, of
            samples without consensus all.
        seed: the seed of these draws; they are a function of seed and picture, whatever else is captioned.
        device: the device to run on; by default that of `pick_device`.

    Raises:
        UserError: a file is missing, damaged, or does not belong to the others; `decode` cannot be, or has
            not so many captions.
    """

    def __init__(
        self,
        files: ModelFiles,
        *,
        decode: Mapping[str, Any] | None = None,
        n_best: int | None = None,
        seed: int = 0,
        device: torch.device | None = None,
    ) -> None:
        params = files.params()
        self.decode: DecodeParams = changed(params.decode, decode or {})
        self.num_captions = captions_asked(self.decode, n_best)
        # open_clip draws numbers when it builds a model; the caller's random state is left unchanged.
        with torch.random.fork_rng(devices=[]):
            restored = restore(files.artifacts, files.weights, device or pick_device())
        self.clip, self.assembly = restored.parts.clip, restored.assembly
        cut, self.cache_dtype = restored.parts.cut, restored.parts.cache_dtype
        speed_up_inference(self.assembly.captioner)
        self.trunk = make_trunk(self.clip.model, cut)
        assert restored.parts.codebook is not None, "restore reads it"
        self.codebook = restored.parts.codebook
        self.labels: LabelsParams = params.labels
        self.label_tail = make_tail(self.clip.model, cut, params.labels.attention)
        self.own_decode = self.decode
        self.guidance = understand(self.decode, self.assembly.vocabulary, self.assembly.device)
        self.precision, self.batch_size = params.precision, params.runtime.caption_batch
        # CLIP saw only the middle of a picture that was resized by its shortest side.
        self.crops_centre = self.clip.identity["preprocessing"]["resize_mode"] != "squash"
        self.seed = seed
        self.region_N: Tensor | None = None

    def with_options(
        self,
        *,
        beam_size: int | None = None,
        samples: int | None = None,
        n_best: int | None = None,
        decode: Mapping[str, Any] | None = None,
        seed: int = 0,
        region: Region | None = None,
    ) -> "ImageCaptioner":
        """The same network, with the options of decoding chosen anew; nothing is loaded or copied.

        Args:
            region: captions look at the patches that this part of the picture touches, and at no others.
                What a patch means was found in the whole picture.

        Raises:
            UserError: as `ImageCaptioner`.
        """
        other = copy(self)
        other.decode = changed(self.own_decode, {**one_way(beam_size, samples), **(decode or {})})
        other.num_captions = captions_asked(other.decode, n_best)
        other.region_N = None if region is None else self._patches(region)
        other.guidance = understand(other.decode, self.assembly.vocabulary, self.assembly.device)
        other.seed = seed
        return other

    def prepare(self, picture: Image.Image) -> Tensor:
        """A picture that `image_file.open_rgb` opened, as CLIP sees it: float32 [3, height, width]."""
        return self.clip.preprocess(picture)

    def describe(self, images: Sequence[Tensor]) -> list[DescribedImage]:
        """Captions of prepared images."""
        encoded, captioner = self.encode(images), self.assembly.captioner
        start = self._looked_at(encoded.start)
        voice = Voice(captioner.step, start, lambda word_BSL: captioner.decoder(word_BSL, start)[0])
        return self.spoken(images, voice, encoded.concept_BG)

    @torch.no_grad()
    def encode(self, images: Sequence[Tensor]) -> Encoded:
        """Prepared images as the decoder needs them."""
        with autocast(self.assembly.device, self.precision):
            return self.assembly.captioner.encode(self.tokens(images))

    @torch.no_grad()
    def spoken(
        self, images: Sequence[Tensor], voice: Voice, concept_BG: Tensor | None
    ) -> list[DescribedImage]:
        """What `voice` says of prepared images, as `decode` has it."""
        with autocast(self.assembly.device, self.precision):
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
        return list(map(DescribedImage, captions, self._grid(concept_BG.cpu().numpy())))

    @torch.no_grad()
    def tokens(self, images: Sequence[Tensor]) -> Tensor:
        """The tokens of prepared images, float32 [B, T, W], rounded as in the cache it was trained on."""
        device = self.assembly.device
        with tf32_products(device):
            tokens_BTW = self.trunk(torch.stack(list(images)).to(device))
        return round_tokens(tokens_BTW, self.cache_dtype)

    def label_map(self, image: Tensor) -> NDArray[np.int64]:
        """MaskCLIP's concept of each patch, [S, S], as the stage `labels` makes it."""
        codebook_KE = self.codebook.embeddings_KE.to(self.assembly.device)
        with tf32_products(self.assembly.device):
            label_BG = label_patches(self.label_tail, self.tokens([image]), codebook_KE, self.labels)
        return self._grid(label_BG[0].cpu().numpy())

    @torch.no_grad()
    def attention(self, image: Tensor, caption: Caption) -> NDArray[np.float32]:
        """Where the network looks when it chooses each word: [L, S, S], each map sums to 1.

        The mean over the decoder's layers and heads (a choice). A caption may be empty.
        """
        if not caption.word_ids:
            return np.empty((0, *self.label_tail.grid_size), dtype=np.float32)
        captioner, device = self.assembly.captioner, self.assembly.device
        word_11L = torch.tensor([[caption.word_ids]], device=device)
        with autocast(device, self.precision), recorded_image_attention(captioner.decoder) as recorded:
            start = self._looked_at(captioner.encode(self.tokens([image])).start)
            captioner.decoder(preceding_words(word_11L), start)
        attention_LG = torch.stack(recorded).mean(dim=(0, 2))[0]
        if self.region_N is not None:
            everywhere_LG = attention_LG.new_zeros(len(attention_LG), math.prod(self.label_tail.grid_size))
            attention_LG = everywhere_LG.index_copy(1, self.region_N, attention_LG)
        return self._grid(attention_LG.cpu().numpy())

    def _looked_at(self, start: DecoderState) -> DecoderState:
        return start if self.region_N is None else only_patches(start, self.region_N)

    def _patches(self, region: Region) -> Tensor:
        """The indices of the patches that a region touches, at least one, [N] int64."""
        rows, columns = self.label_tail.grid_size
        left, top, right, bottom = region
        touched_SS = torch.zeros(rows, columns, dtype=torch.bool)
        row, column = min(int(top * rows), rows - 1), min(int(left * columns), columns - 1)
        below, beyond = max(math.ceil(bottom * rows), row + 1), max(math.ceil(right * columns), column + 1)
        touched_SS[row:below, column:beyond] = True
        return touched_SS.flatten().nonzero()[:, 0].to(self.assembly.device)

    def _seed_of(self, image: Tensor) -> int:
        """A function of `seed` and the pixels of a prepared image."""
        digest = hashlib.sha256(image.cpu().numpy().tobytes() + str(self.seed).encode()).digest()
        return int.from_bytes(digest[:8]) >> 1

    def _grid(self, of_patches: NDArray[Any]) -> NDArray[Any]:
        """The last axis, G patches, as rows and columns."""
        rows, columns = self.label_tail.grid_size
        return of_patches.reshape(*of_patches.shape[:-1], rows, columns)

    def _caption(self, caption_L: list[int], log_prob_L: list[float]) -> Caption:
        vocabulary = self.assembly.vocabulary
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


@contextmanager
def recorded_image_attention(decoder: CaptionDecoder) -> Iterator[list[Tensor]]:
    """A list to which every layer adds its weights [B, H, Q, G] while the block runs, beside its computation.

    The decoder attends with PyTorch's fused kernels, which return no weights. Hooks read the inputs of its
    attention to the image and compute the weights again; without them nothing is slower. What other threads
    do with the decoder meanwhile is not recorded.
    """
    recorded: list[Tensor] = []
    own_thread = threading.get_ident()

    def listen(attention: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if threading.get_ident() != own_thread:
            return
        assert isinstance(attention, MultiHeadAttention)
        recorded.append(attention_weights(attention, inputs[0], inputs[1]))

    layers = cast(list[DecoderLayer], list(decoder.layers))
    hooks = [layer.image_attention.register_forward_pre_hook(listen) for layer in layers]
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()


def attention_weights(attention: MultiHeadAttention, query_BQD: Tensor, keys_BHGC: Tensor) -> Tensor:
    """softmax(query . key / sqrt(C)) over the patches, [B, H, Q, G] float32."""
    query_BHQC = attention.split_heads(attention.query(query_BQD)).float()
    logits_BHQG = query_BHQC @ keys_BHGC.float().transpose(2, 3) / query_BHQC.shape[-1] ** 0.5
    return torch.softmax(logits_BHQG, dim=-1)
