"""Captions of image files without any cache: trunk, tail and decoder run together.

Shapes: B images, S captions per image, L positions, Q = S * L words of an image's captions, T trunk tokens,
W vision width, G patches, H heads, C width per head; maps are [S, S].
"""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from fsgr_model.clip.maskclip import label_patches
from fsgr_model.clip.token_cache import round_tokens
from fsgr_model.clip.towers import make_tail, make_trunk
from fsgr_model.config.params import LabelsParams
from fsgr_model.inference.decoding import preceding_words
from fsgr_model.inference.describing import About, Caption, Describer, Seen, refuse_at_once
from fsgr_model.inference.model_folder import ModelFiles
from fsgr_model.kernels.inference import speed_up_inference
from fsgr_model.network.assembly import restore
from fsgr_model.network.attention import MultiHeadAttention
from fsgr_model.network.decoder import CaptionDecoder, DecoderLayer, DecoderState
from fsgr_model.runtime.device import autocast, pick_device, tf32_products


class ImageCaptioner(Describer):
    """A trained network that captions pictures.

    Args:
        files: the paths of the network.
        device: the device to run on; by default that of `pick_device`.
        wishes: `decode`, `n_best` and `seed`, as `Describer` takes them.

    Raises:
        UserError: a file is missing, damaged, or does not belong to the others; or as `Describer`.
    """

    def __init__(self, files: ModelFiles, *, device: torch.device | None = None, **wishes: Any) -> None:
        params = files.params()
        refuse_at_once(params, wishes)
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
        about = About(
            vocabulary=self.assembly.vocabulary,
            concepts=self.codebook.names,
            grid_size=self.label_tail.grid_size,
            device=self.assembly.device,
            # CLIP saw only the middle of a picture that was resized by its shortest side.
            crops_centre=self.clip.identity["preprocessing"]["resize_mode"] != "squash",
            identity=self.clip.identity,
        )
        super().__init__(about, params, **wishes)

    def prepare(self, picture: Image.Image) -> Tensor:
        """As `Describer.prepare`."""
        return self.clip.preprocess(picture)

    @torch.no_grad()
    def encode(self, images: Sequence[Tensor]) -> Seen:
        """Prepared images as the decoder needs them."""
        with autocast(self.device, self.precision):
            encoded = self.assembly.captioner.encode(self.tokens(images))
        return Seen(encoded.start, encoded.concept_BG)

    def step(self, word_BS: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """As `Describer.step`."""
        return self.assembly.captioner.step(word_BS, state)

    def read(self, word_BSL: Tensor, start: DecoderState) -> Tensor:
        """As `Describer.read`, all words at once."""
        return self.assembly.captioner.decoder(word_BSL, start)[0]

    def weights(self) -> Mapping[str, Tensor]:
        """Of the network and of CLIP's tail."""
        return self.assembly.captioner.state_dict()

    @torch.no_grad()
    def tokens(self, images: Sequence[Tensor]) -> Tensor:
        """The tokens of prepared images, float32 [B, T, W], rounded as in the cache it was trained on."""
        device = self.device
        with tf32_products(device):
            tokens_BTW = self.trunk(torch.stack(list(images)).to(device))
        return round_tokens(tokens_BTW, self.cache_dtype)

    def label_map(self, image: Tensor) -> NDArray[np.int64]:
        """MaskCLIP's concept of each patch, [S, S], as the stage `labels` makes it."""
        codebook_KE = self.codebook.embeddings_KE.to(self.device)
        with tf32_products(self.device):
            label_BG = label_patches(self.label_tail, self.tokens([image]), codebook_KE, self.labels)
        return self.grid(label_BG[0].cpu().numpy())

    @torch.no_grad()
    def attention(self, image: Tensor, caption: Caption) -> NDArray[np.float32]:
        """Where the network looks when it chooses each word: [L, S, S], each map sums to 1.

        The mean over the decoder's layers and heads (a choice). A caption may be empty.
        """
        if not caption.word_ids:
            return np.empty((0, *self.grid_size), dtype=np.float32)
        captioner, device = self.assembly.captioner, self.device
        word_11L = torch.tensor([[caption.word_ids]], device=device)
        with autocast(device, self.precision), recorded_image_attention(captioner.decoder) as recorded:
            start = self.looked_at(captioner.encode(self.tokens([image])).start)
            captioner.decoder(preceding_words(word_11L), start)
        attention_LG = torch.stack(recorded).mean(dim=(0, 2))[0]
        if self.region_N is not None:
            everywhere_LG = attention_LG.new_zeros(len(attention_LG), math.prod(self.grid_size))
            attention_LG = everywhere_LG.index_copy(1, self.region_N, attention_LG)
        return self.grid(attention_LG.cpu().numpy())


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
