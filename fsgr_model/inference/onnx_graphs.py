"""A trained network as three graphs in float32, which any runtime for ONNX can run.

- trunk: images [B, 3, height, width] -> tokens [B, T, W], rounded as in the cache
- tail: tokens -> concepts [B, G] int64 (not without `model.semantics`), image_keys_0, image_values_0, ...
- step: words [B, S] int64, image_keys_0, image_values_0, ... [B, H, G, C], word_keys_0, word_values_0, ...
  [B, S, H, P, C] -> logits [B, S, V], new_word_keys_0, new_word_values_0, ... [B, S, H, P + 1, C]

There are keys and values for each layer of the decoder; of words there are none (P = 0) when <bos> is read.

Shapes: B images, S captions per image, P positions read before, T trunk tokens, W vision width, G patches,
H heads, C width per head, V words.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from fsgr_model.clip.token_cache import CacheDtype, quantise
from fsgr_model.clip.towers import AnyTrunk, make_trunk
from fsgr_model.network.assembly import Restored
from fsgr_model.network.captioner import Captioner
from fsgr_model.network.decoder import DecoderState, LayerState


@dataclass(frozen=True)
class Graph:
    """What is written as a graph.

    `inputs` is an example; `free` names, by input and axis, the sizes that may differ from the example's.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    free: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Sizes:
    """Of an example: images, captions per image, positions read before."""

    images: int
    captions: int
    positions: int


class TrunkGraph(nn.Module):
    """The trunk, and the rounding of the cache."""

    def __init__(self, trunk: AnyTrunk, cache_dtype: CacheDtype) -> None:
        super().__init__()
        self.trunk, self.cache_dtype = trunk, cache_dtype

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        tokens_BTW = self.trunk(images)
        if self.cache_dtype == "float16":
            return (tokens_BTW.half().float(),)
        codes_BTW, scale_BT = quantise(tokens_BTW)
        return (codes_BTW.float() * scale_BT.float()[..., None],)


class TailGraph(nn.Module):
    """The tail of CLIP, the quantiser and the encoder, up to where the decoder starts."""

    def __init__(self, captioner: Captioner) -> None:
        super().__init__()
        self.captioner = captioner

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        encoded = self.captioner.encode(tokens)
        concepts = () if encoded.concept_BG is None else (encoded.concept_BG,)
        image = _flat((layer.image_keys, layer.image_values) for layer in encoded.start.layers)
        return (*concepts, *image)


class StepGraph(nn.Module):
    """The decoder reads one word of every caption; `tensors`: keys and values, the image's first."""

    def __init__(self, captioner: Captioner) -> None:
        super().__init__()
        self.captioner = captioner

    def forward(self, words: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        half = len(tensors) // 2
        image, said = tensors[:half], [each.flatten(0, 1) for each in tensors[half:]]
        layers = [LayerState(*image[n : n + 2], *said[n : n + 2]) for n in range(0, half, 2)]
        state = DecoderState(tuple(layers), position=tensors[-1].shape[3])
        logits_BSV, state = self.captioner.step(words, state)
        new = _flat((layer.word_keys, layer.word_values) for layer in state.layers)
        return (logits_BSV, *(each.unflatten(0, words.shape) for each in new))


@torch.no_grad()
def graphs_of(restored: Restored, sizes: Sizes) -> dict[str, Graph]:
    """The graphs of a network by name, with an example of these sizes: pictures of noise, and words of it."""
    trunk = _trunk(restored, sizes)
    tail = _tail(restored, *trunk.module(*trunk.inputs.values()))
    found = dict(zip(tail.outputs, tail.module(*tail.inputs.values()), strict=True))
    found.pop("concepts", None)
    return {"trunk": trunk, "tail": tail, "step": _step(restored, found, sizes)}


def names_of(layers: int, prefix: str) -> list[str]:
    """Of keys and values, layer by layer: `image_keys_0`, `image_values_0`, ... for the prefix `image`."""
    return [f"{prefix}_{what}_{layer}" for layer in range(layers) for what in ("keys", "values")]


def _trunk(restored: Restored, sizes: Sizes) -> Graph:
    parts = restored.parts
    module = TrunkGraph(make_trunk(parts.clip.model, parts.cut), parts.cache_dtype).eval()
    shape = parts.clip.preprocess(Image.new("RGB", (8, 8))).shape
    images = torch.randn(sizes.images, *shape, generator=torch.Generator().manual_seed(0))
    return Graph(module, {"images": images}, {"images": {0: "images"}}, ("tokens",))


def _tail(restored: Restored, tokens: Tensor) -> Graph:
    captioner = restored.assembly.captioner
    concepts = () if captioner.quantiser is None else ("concepts",)
    outputs = (*concepts, *names_of(len(captioner.decoder.layers), "image"))
    return Graph(TailGraph(captioner).eval(), {"tokens": tokens}, {"tokens": {0: "images"}}, outputs)


def _step(restored: Restored, image: Mapping[str, Tensor], sizes: Sizes) -> Graph:
    captioner = restored.assembly.captioner
    B, H, _, C = next(iter(image.values())).shape
    S, P = sizes.captions, sizes.positions
    draw = torch.Generator().manual_seed(1)
    of_words = names_of(len(captioner.decoder.layers), "word")
    said = {name: torch.randn(B, S, H, P, C, generator=draw) for name in of_words}
    words = torch.randint(len(restored.parts.vocabulary), (B, S), generator=draw)
    free = {
        "words": {0: "images", 1: "captions"},
        **{name: {0: "images", 2: "patches"} for name in image},
        **{name: {0: "images", 1: "captions", 3: "positions"} for name in said},
    }
    outputs = ("logits", *(f"new_{name}" for name in of_words))
    return Graph(StepGraph(captioner).eval(), {"words": words, **image, **said}, free, outputs)


def _flat(pairs: Iterable[tuple[Tensor | None, Tensor | None]]) -> list[Tensor]:
    return [each for pair in pairs for each in pair if each is not None]
