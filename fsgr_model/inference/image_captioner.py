"""Captions of image files without any cache: trunk, tail and decoder run together.

Shapes: B images, S captions per image, L positions, T trunk tokens, W vision width, G patches;
maps are [S, S].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fsgr_model.clip.maskclip import label_patches
from fsgr_model.clip.token_cache import round_tokens
from fsgr_model.clip.towers import make_tail, make_trunk
from fsgr_model.config.params import DecodeParams, LabelsParams
from fsgr_model.inference.captioning import search
from fsgr_model.inference.decoding import caption_log_probs, preceding_words, sample
from fsgr_model.inference.model_folder import ModelFiles
from fsgr_model.kernels.inference import speed_up_inference
from fsgr_model.network.assembly import restore
from fsgr_model.network.attention_maps import recorded_image_attention
from fsgr_model.network.captioner import Encoded
from fsgr_model.runtime.device import autocast, pick_device, tf32_products
from fsgr_model.text.vocabulary import EOS, PAD


@dataclass(frozen=True)
class Caption:
    """A caption, the ids of its words, and the natural logarithm of its probability, end token included."""

    text: str
    word_ids: list[int]
    log_probability: float


@dataclass(frozen=True)
class DescribedImage:
    """Captions of an image, and the concept that the quantiser gave each patch: [S, S], first row on top.

    There are no concepts without `model.semantics`.
    """

    captions: list[Caption]
    concept_SS: NDArray[np.int64] | None


class ImageCaptioner:
    """A trained network that captions pictures.

    Args:
        files: the paths of the network.
        beam_size: the number of hypotheses kept; by default from the model's own parameters.
        samples: draw this many captions from the model instead of searching for the likeliest.
        seed: the seed of these draws.

    Raises:
        UserError: a file is missing, damaged, or does not belong to the others.
    """

    def __init__(
        self, files: ModelFiles, beam_size: int | None = None, samples: int | None = None, seed: int = 0
    ) -> None:
        params = files.params()
        restored = restore(files.artifacts, files.weights, pick_device())
        self.clip, self.assembly = restored.parts.clip, restored.assembly
        cut, self.cache_dtype = restored.parts.cut, restored.parts.cache_dtype
        speed_up_inference(self.assembly.captioner)
        self.trunk = make_trunk(self.clip.model, cut)
        assert restored.parts.codebook is not None, "restore reads it"
        self.codebook = restored.parts.codebook
        self.labels: LabelsParams = params.labels
        self.label_tail = make_tail(self.clip.model, cut, params.labels.attention)
        self.decode: DecodeParams = params.decode
        if beam_size is not None:
            self.decode = self.decode.model_copy(update={"beam_size": beam_size})
        # CLIP saw only the middle of a picture that was resized by its shortest side.
        self.crops_centre = self.clip.identity["preprocessing"]["resize_mode"] != "squash"
        self.samples = samples
        torch.manual_seed(seed)

    def prepare(self, picture: Image.Image) -> Tensor:
        """A picture that `image_file.open_rgb` opened, as CLIP sees it: float32 [3, height, width]."""
        return self.clip.preprocess(picture)

    @torch.no_grad()
    def describe(self, images: Sequence[Tensor]) -> list[DescribedImage]:
        """Captions of prepared images."""
        encoded, caption_BSL = self._decode(self.tokens(images))
        with autocast(caption_BSL.device, self.decode.precision):
            logits_BSLV, _ = self.assembly.captioner.decoder(preceding_words(caption_BSL), encoded.start)
        log_prob_BS = caption_log_probs(logits_BSLV, caption_BSL).sum(dim=-1)
        captions = [
            list(map(self._caption, *of_image))
            for of_image in zip(caption_BSL.tolist(), log_prob_BS.tolist(), strict=True)
        ]
        if encoded.concept_BG is None:
            return [DescribedImage(of_image, None) for of_image in captions]
        concept_BSS = self._grid(encoded.concept_BG.cpu().numpy())
        return list(map(DescribedImage, captions, concept_BSS))

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
        with autocast(device, self.decode.precision), recorded_image_attention(captioner.decoder) as recorded:
            captioner.decoder(preceding_words(word_11L), captioner.encode(self.tokens([image])).start)
        return self._grid(torch.stack(recorded).mean(dim=(0, 2))[0].cpu().numpy())

    def _decode(self, tokens_BTW: Tensor) -> tuple[Encoded, Tensor]:
        """The encoded images, and the requested captions: the best one, or the samples."""
        captioner = self.assembly.captioner
        if self.samples is None:
            encoded, caption_BSL = search(captioner, tokens_BTW, self.decode)
            return encoded, caption_BSL[:, :1]
        with autocast(tokens_BTW.device, self.decode.precision):
            encoded = captioner.encode(tokens_BTW)
            drawn_BSL = sample(
                captioner.step,
                encoded.start,
                len(tokens_BTW),
                num_samples=self.samples,
                max_length=self.decode.max_length,
            )
        return encoded, drawn_BSL

    def _grid(self, of_patches: NDArray[Any]) -> NDArray[Any]:
        """The last axis, G patches, as rows and columns."""
        rows, columns = self.label_tail.grid_size
        return of_patches.reshape(*of_patches.shape[:-1], rows, columns)

    def _caption(self, caption_L: list[int], log_probability: float) -> Caption:
        word_ids = list(takewhile(lambda word: word not in (EOS, PAD), caption_L))
        return Caption(self.assembly.vocabulary.decode(word_ids), word_ids, log_probability)
