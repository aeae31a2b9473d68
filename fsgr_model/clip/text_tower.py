"""CLIP's frozen text tower, read word by word.

Shapes: B captions, C tokens (start, BPE tokens, end, padding), W width of the tower, E joint width.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsgr_model.clip.clip_vit import ClipBlock
from fsgr_model.clip.loading import Clip
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.vit import Block, run_blocks
from fsgr_model.runtime.device import at_least_float32
from fsgr_model.runtime.errors import UserError


class TextStates(NamedTuple):
    """The outputs of the tower for B captions; nothing is normalised.

    `caption_BE`: the text embedding of each caption, equal to open_clip's `encode_text`.
    `token_BCE`: every token's state in the joint space.
    `word_BC`: the index of the word that a token is a piece of, int64; -1 for start, end and padding.
    """

    caption_BE: Tensor
    token_BCE: Tensor
    word_BC: Tensor


class TextLayers(NamedTuple):
    """The layers of a causal text transformer, in open_clip's names and order."""

    token_embedding: nn.Embedding
    position_CW: Tensor
    causal_CC: Tensor
    blocks: list[Block]
    ln_final: nn.Module
    projection_WE: Tensor

    def states(self, token_BC: Tensor) -> tuple[Tensor, Tensor]:
        """State of every token in the joint space [B, C, E], and that of each end token [B, E].

        C may be less than CLIP's context: attention is causal, so padding after the end has no influence.
        """
        C = token_BC.shape[1]
        x_BCW = self.token_embedding(token_BC) + self.position_CW[:C]
        x_BCW = self.ln_final(run_blocks(self.blocks, x_BCW, self.causal_CC[:C, :C]))
        token_BCE = x_BCW @ self.projection_WE
        # The end token has the largest id.
        end_B = token_BC.argmax(dim=1)
        return token_BCE, token_BCE[torch.arange(len(end_B), device=end_B.device), end_B]


class TextTower:
    """Reads captions given as words: each is one or several BPE tokens; what exceeds CLIP's context is cut.

    Only the text side of CLIP is kept; the vision tower is released.

    Raises:
        UserError: the text tower is of another kind than CLIP's own, or its tokenizer gives a word no token.
    """

    def __init__(self, clip: Clip, words: Iterable[str]) -> None:
        layers = causal_text_layers(clip.model)
        if layers is None:
            _, pool_type = text_part(clip.model)
            raise UserError(
                "xe.alignment needs a CLIP whose text tower is causal and whose text embedding "
                f"is the projected state of the end token; this one (pool_type {pool_type!r}) is of another "
                "kind; choose another clip.model, or xe.alignment: null"
            )
        self.layers = layers
        tokenizer: Any = clip.tokenizer
        self.start, self.end = tokenizer.sot_token_id, tokenizer.eot_token_id
        self.pieces_of = {word: tokenizer.encode(word) for word in set(words)}
        empty = sorted(word for word, pieces in self.pieces_of.items() if not pieces)
        if empty:
            raise UserError(
                f"CLIP's tokenizer has no token for these words of the captions: {empty[:10]}; remove them"
            )

    @property
    def joint_width(self) -> int:
        """E."""
        return self.layers.projection_WE.shape[1]

    def tokens(self, captions: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """Token ids [B, C] and `word_BC`, C as long as the longest caption needs."""
        most = len(self.layers.position_CW) - 2
        rows, words = [], []
        for caption in captions:
            pieces = [(piece, w) for w, word in enumerate(caption) for piece in self.pieces_of[word]][:most]
            rows.append(torch.tensor([self.start, *(piece for piece, _ in pieces), self.end]))
            words.append(torch.tensor([-1, *(word for _, word in pieces), -1]))
        pad = nn.utils.rnn.pad_sequence
        return pad(rows, batch_first=True), pad(words, batch_first=True, padding_value=-1)

    @torch.no_grad()
    def __call__(self, captions: Sequence[Sequence[str]]) -> TextStates:
        """States of B captions, on the device of CLIP."""
        token_BC, word_BC = (x.to(self.layers.position_CW.device) for x in self.tokens(captions))
        token_BCE, caption_BE = self.layers.states(token_BC)
        return TextStates(caption_BE, token_BCE, word_BC)


def text_embedding(clip_model: Any, token_BC: Tensor) -> Tensor:
    """`encode_text`'s embedding [B, E], float32, unit rows; read up to the end of the longest text only.

    Most of what open_clip reads is padding: a prompt of one word has about 6 tokens, the context has 77.

    Args:
        token_BC: what the tokenizer gave, on the CPU.
    """
    layers = causal_text_layers(clip_model)
    device = clip_model.logit_scale.device
    if layers is None:
        return at_least_float32(clip_model.encode_text(token_BC.to(device), normalize=True))
    longest = int(token_BC.argmax(dim=1).max()) + 1
    return F.normalize(at_least_float32(layers.states(token_BC[:, :longest].to(device))[1]), dim=-1)


def causal_text_layers(clip_model: Any) -> TextLayers | None:
    """The text layers of an open_clip model, or of `text` in CustomTextCLIP.

    It is None if the attention is not causal, the embedding is not the projected state of the end token, or
    the blocks are not CLIP's own.
    """
    tower, pool_type = text_part(clip_model)
    causal = getattr(tower, "attn_mask", None) is not None and getattr(tower, "cls_emb", None) is None
    if pool_type != "argmax" or not causal or not isinstance(tower.text_projection, Tensor):
        return None
    if not isinstance(tower.transformer.resblocks[0], open_clip.transformer.ResidualAttentionBlock):
        return None
    return TextLayers(
        tower.token_embedding,
        tower.positional_embedding,
        tower.attn_mask,
        [ClipBlock(block) for block in tower.transformer.resblocks],
        tower.ln_final,
        tower.text_projection,
    )


def text_part(clip_model: Any) -> tuple[Any, str]:
    """The module that contains the text layers, and how it pools their states."""
    if hasattr(clip_model, "token_embedding"):
        return clip_model, clip_model.text_pool_type
    tower = clip_model.text
    # A tower of transformers has a layer that pools instead.
    return tower, tower.pool_type if hasattr(tower, "pool_type") else type(tower.pooler).__name__
