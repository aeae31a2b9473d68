"""Caption decoder. Its memory of earlier words goes in and out as an argument, never in a buffer.

All captions of an image share that image's keys and values: nothing is copied five times.

Shapes: B images, S captions (samples, beams) per image, L caption positions, G patches, D d_model,
E width of a word vector, V words, H heads, C width per head, P earlier positions.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fsgr_model.config.model_params import MemoryKind, ResidualKind
from fsgr_model.network.attention import FeedForward, MultiHeadAttention
from fsgr_model.network.memory import self_attention
from fsgr_model.network.packing import Packing
from fsgr_model.network.positions import sine_positions
from fsgr_model.network.residual import around_attention, around_feed_forward, final_norm

MAX_POSITIONS = 512


@dataclass(frozen=True)
class LayerState:
    """Keys and values of one layer: of the image [B, H, G, C] and of the words so far [B*S, H, P, C]."""

    image_keys: Tensor
    image_values: Tensor
    word_keys: Tensor | None = None
    word_values: Tensor | None = None


@dataclass(frozen=True)
class DecoderState:
    """The state of the decoder: one `LayerState` per layer, and how many positions were read."""

    layers: tuple[LayerState, ...]
    position: int = 0

    @property
    def device(self) -> torch.device:
        return self.layers[0].image_keys.device

    def select(self, row_N: Tensor, image_B: Tensor | None = None) -> "DecoderState":
        """Other captions: `row_N` [B*S] int64 indexes the old rows, image by image.

        `image_B` int64 indexes the old images; None keeps them all, without a copy.
        """
        layers = []
        for layer in self.layers:
            assert layer.word_keys is not None and layer.word_values is not None, "select needs a position"
            keys, values = layer.image_keys, layer.image_values
            if image_B is not None:
                keys, values = (x.index_select(0, image_B) for x in (keys, values))
            words = (x.index_select(0, row_N) for x in (layer.word_keys, layer.word_values))
            layers.append(LayerState(keys, values, *words))
        return DecoderState(tuple(layers), self.position)


class DecoderLayer(nn.Module):
    """Masked self-attention, with or without a memory, attention to the image, feed-forward."""

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int,
        d_ff: int,
        dropout: float,
        residual: ResidualKind,
        memory: MemoryKind,
        memory_size: int,
    ) -> None:
        super().__init__()
        drop = nn.Dropout(dropout)
        self.self_attention = self_attention(d_model, num_heads, memory, memory_size)
        self.self_residual = around_attention(residual, d_model, drop)
        self.image_attention = MultiHeadAttention(d_model, num_heads)
        self.image_residual = around_attention(residual, d_model, drop)
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.feed_forward_residual = around_feed_forward(residual, d_model, drop)

    def image_keys_values(self, keyed_BGD: Tensor, image_BGD: Tensor) -> LayerState:
        """Keys and values of the image, before any word."""
        return LayerState(*self.image_attention.keys_values(keyed_BGD, image_BGD))

    def forward(self, word_BSLD: Tensor, state: LayerState, sees: Tensor | None) -> tuple[Tensor, LayerState]:
        """Read L new positions after those in `state`; `sees` (bool): which word sees which of them."""
        B, S, L, D = word_BSLD.shape
        word_NLD = word_BSLD.flatten(0, 1)
        read_NLD = self.self_residual.before(word_NLD)
        keys, values = self.self_attention.keys_values(read_NLD, read_NLD)
        if state.word_keys is not None and state.word_values is not None:
            assert L == 1, "with a past, one position at a time"
            keys = torch.cat([state.word_keys, keys], dim=2)
            values = torch.cat([state.word_values, values], dim=2)
        mixed_NLD = self.self_attention(read_NLD, keys, values, sees)
        word_NLD = self.self_residual.after(word_NLD, read_NLD, mixed_NLD)

        # Attention to the image ignores positions, so all words of an image's captions go into one row.
        word_BQD = word_NLD.view(B, S * L, D)
        read_BQD = self.image_residual.before(word_BQD)
        mixed_BQD = self.image_attention(read_BQD, state.image_keys, state.image_values)
        word_BQD = self.image_residual.after(word_BQD, read_BQD, mixed_BQD)
        read_BQD = self.feed_forward_residual.before(word_BQD)
        word_BQD = self.feed_forward_residual.after(word_BQD, read_BQD, self.feed_forward(read_BQD))
        return word_BQD.view(B, S, L, D), replace(state, word_keys=keys, word_values=values)


class CaptionDecoder(nn.Module):
    """Words to logits. Word vectors start as CLIP's text embeddings and are trained on."""

    position_LD: Tensor

    def __init__(
        self,
        word_VE: Tensor,
        d_model: int,
        *,
        num_heads: int,
        d_ff: int,
        num_layers: int,
        dropout: float,
        residual: ResidualKind = "post",
        memory: MemoryKind = "none",
        memory_size: int = 0,
    ) -> None:
        super().__init__()
        num_words, width = word_VE.shape
        self.word_embedding = nn.Embedding(num_words, width)
        self.word_projection = nn.Identity() if width == d_model else nn.Linear(width, d_model, bias=False)
        self.layers = nn.ModuleList(
            DecoderLayer(
                d_model,
                num_heads=num_heads,
                d_ff=d_ff,
                dropout=dropout,
                residual=residual,
                memory=memory,
                memory_size=memory_size,
            )
            for _ in range(num_layers)
        )
        self.last_norm = final_norm(residual, d_model)
        self.output = nn.Linear(d_model, num_words, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("position_LD", sine_positions(MAX_POSITIONS, d_model), persistent=False)
        with torch.no_grad():
            # Unit rows times the root of their width: variance 1, on the scale of the positions
            # (arXiv 1706.03762, section 3.4).
            self.word_embedding.weight.copy_(word_VE * width**0.5)

    def start(self, image_BGD: Tensor, position_GD: Tensor) -> DecoderState:
        """Project the image once for all captions and all steps; positions enter keys, not values."""
        keyed_BGD = image_BGD + position_GD
        states = (layer.image_keys_values(keyed_BGD, image_BGD) for layer in self.layers)  # type: ignore[operator]
        return DecoderState(tuple(states))

    def forward(
        self, word_BSL: Tensor, state: DecoderState, packing: Packing | None = None
    ) -> tuple[Tensor, DecoderState]:
        """Read the words (int64) and predict, after each one, the next.

        A word sees itself and what came before it, so what follows it (padding) has no influence.

        Args:
            packing: read only the words that it counts, from the start of their captions; for training.

        Returns:
            logits [B, S, L, V] and the state after the last word. Packed: logits [N, V] in the order of
            `word_BSL[counted_BSL]`, and a state with the words of an image in one row.
        """
        if packing is not None:
            # One row per image, like one long caption in which a word sees only its own caption.
            word_B1Q, position_B1QD = (
                packing.pack(word_BSL)[:, None],
                self.position_LD[packing.position_BQ][:, None],
            )
            x_B1QD, state = self._read(word_B1Q, position_B1QD, state, packing.sees_BQQ[:, None])
            return self.output(packing.counted(x_B1QD[:, 0])), state
        L = word_BSL.shape[-1]
        position_LD = self.position_LD[state.position : state.position + L]
        sees_LL = torch.ones(L, L, dtype=torch.bool, device=word_BSL.device).tril() if L > 1 else None
        x_BSLD, state = self._read(word_BSL, position_LD, state, sees_LL)
        return self.output(x_BSLD), state

    def _read(
        self, word_BSL: Tensor, position: Tensor, state: DecoderState, sees: Tensor | None
    ) -> tuple[Tensor, DecoderState]:
        """The output of the layers for the words, [B, S, L, D], and the state after them."""
        x_BSLD = self.dropout(self.word_projection(self.word_embedding(word_BSL)) + position)
        layers = []
        for layer, layer_state in zip(self.layers, state.layers, strict=True):
            x_BSLD, layer_state = layer(x_BSLD, layer_state, sees)
            layers.append(layer_state)
        return self.last_norm(x_BSLD), DecoderState(tuple(layers), state.position + word_BSL.shape[-1])
