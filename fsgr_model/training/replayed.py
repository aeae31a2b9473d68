"""The captioner's calls in training through CUDA graphs (`kernels.cuda_graphs`).

Shapes: B images, S captions per image, L positions, V words, N words that count.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from fsgr_model.inference.decoding import sample
from fsgr_model.kernels.cuda_graphs import Replayed, ReplayedWithGradients
from fsgr_model.network.captioner import Captioner, Encoded
from fsgr_model.network.decoder import CaptionDecoder, DecoderState, LayerState
from fsgr_model.network.packing import Packing
from fsgr_model.text.vocabulary import PAD

# Captions are filled up to a multiple of so many positions, so that few shapes occur.
POSITIONS = 8


def replay_on_gpu(model: Captioner) -> None:
    """Encode and read captions by replays from now on, on a CUDA device; does nothing elsewhere.

    A decoder with a memory is left as it is: its prototypes are made from the keys and values of each batch.
    """
    if next(model.parameters()).device.type != "cuda":
        return
    model.encode = ReplayedEncoder(model)  # type: ignore[method-assign]
    if model.decoder.memory == "none":
        model.decoder.forward = ReplayedReading(model.decoder)  # type: ignore[method-assign]


class ReplayedEncoder:
    """`Captioner.encode`, replayed."""

    def __init__(self, model: Captioner) -> None:
        self.plain = model.encode
        self.replayed = ReplayedWithGradients(self._flat, model)

    def _flat(self, tokens_BTW: Tensor) -> tuple[Tensor, ...]:
        encoded = self.plain(tokens_BTW)
        concepts = () if encoded.concept_BG is None else (encoded.concept_BG,)
        return (*tensors_of(encoded.start), encoded.visual_BGD, encoded.image_BGD, *concepts)

    def __call__(self, tokens_BTW: Tensor) -> Encoded:
        """As `Captioner.encode`."""
        flat = self.replayed(tokens_BTW)
        concepts = len(flat) % 2
        end = len(flat) - 2 - concepts
        return Encoded(state_of(flat[:end]), flat[end], flat[end + 1], flat[-1] if concepts else None)


class ReplayedReading:
    """`CaptionDecoder.forward`; replayed where whole captions are read in training.

    Words are read with their padding, at a fixed length, instead of packed: the time goes into launches.
    """

    def __init__(self, decoder: CaptionDecoder) -> None:
        self.plain = decoder.forward
        self.replayed = ReplayedWithGradients(self._logits, decoder)

    def _logits(self, word_BSL: Tensor, *image: Tensor) -> tuple[Tensor, ...]:
        return (self.plain(word_BSL, state_of(image))[0],)

    def __call__(
        self, word_BSL: Tensor, state: DecoderState, packing: Packing | None = None
    ) -> tuple[Tensor, DecoderState]:
        """As `CaptionDecoder.forward`; packed words leave the state as it was."""
        if packing is None:
            return self.plain(word_BSL, state)
        filled_BSL = F.pad(word_BSL, (0, -word_BSL.shape[-1] % POSITIONS), value=PAD)
        (logits_BSLV,) = self.replayed(filled_BSL, *tensors_of(state))
        return counted_of(logits_BSLV, packing), state


class ReplayedSampler:
    """`decoding.sample` from an encoded batch, replayed: all positions in one launch."""

    def __init__(self, model: Captioner, *, num_samples: int, max_length: int) -> None:
        self.model, self.num_samples, self.max_length = model, num_samples, max_length
        self.replayed = Replayed(self._draw)

    def _draw(self, *image: Tensor) -> tuple[Tensor, ...]:
        return (
            sample(
                self.model.step,
                state_of(image),
                len(image[0]),
                num_samples=self.num_samples,
                max_length=self.max_length,
                fixed_shapes=True,
            ),
        )

    def __call__(self, start: DecoderState) -> Tensor:
        """Captions [B, S, L] int64, L being the length of the longest."""
        (caption_BSL,) = self.replayed(*tensors_of(start))
        longest = int((caption_BSL != PAD).sum(dim=-1).max())
        return caption_BSL[..., :longest]


def counted_of(logits_BSLV: Tensor, packing: Packing) -> Tensor:
    """[N, V]: the logits of the words that `packing` counts, in its order; L may be longer than its own."""
    B, S, L, _ = logits_BSLV.shape
    row_BQ = packing.place_BQ // packing.length * L + packing.position_BQ
    first_B1 = row_BQ.new_tensor(range(B))[:, None] * (S * L)
    return logits_BSLV.flatten(0, 2).index_select(0, (row_BQ + first_B1).flatten()[packing.row_N])


def tensors_of(state: DecoderState) -> tuple[Tensor, ...]:
    """Keys and values of the image, layer by layer, of a state before the first word."""
    assert state.position == 0, "before the first word"
    return tuple(tensor for layer in state.layers for tensor in (layer.image_keys, layer.image_values))


def state_of(tensors: Sequence[Tensor]) -> DecoderState:
    """The inverse of `tensors_of`."""
    return DecoderState(tuple(map(LayerState, tensors[::2], tensors[1::2])))
