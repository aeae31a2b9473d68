"""Greedy decoding and sampling: plain functions over a step and its state; beam search is in `beam_search`.

Shapes: B images, S captions (samples or beams) per image, L positions, P words said so far, V words.
A caption is a row of word ids without <bos>; it ends with <eos>, then <pad>; one that was cut at
`max_length` positions has no <eos>.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from fsgr_model.runtime.device import at_least_float32
from fsgr_model.text.vocabulary import BOS, EOS, PAD, UNK


class State(Protocol):
    """What a decoder remembers: a `DecoderState`, or those of several."""

    @property
    def device(self) -> torch.device: ...

    def select(self, row_N: Tensor, image_B: Tensor | None = None) -> Any:
        """The state of other captions, as `DecoderState.select` returns it."""


Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
"""The last words [B, S] int64 and the `State` in; logits [B, S, V] of the next words and a new state out."""


@dataclass(frozen=True)
class Spoken:
    """What has been said: of which images [B] int64, and their words [B, S, P] int64 without <bos>.

    A caption that has not ended has exactly P words; what a rule says of one that has ended does not count.
    """

    image_B: Tensor
    word_BSP: Tensor

    @property
    def length(self) -> int:
        """P, the words so far."""
        return self.word_BSP.shape[-1]


class Rule(Protocol):
    """Changes log-probabilities [B, S, V] float32 of the next words in place."""

    def __call__(self, log_prob_BSV: Tensor, spoken: Spoken) -> None: ...


# <unk>, <pad> and <bos>, which lie together: one fill for all, which a CUDA graph can record.
NEVER_SPOKEN = slice(UNK, EOS)


def word_log_probs(logits: Tensor) -> Tensor:
    """Log-probabilities of the words that a caption may have, float32; <unk>, <pad> and <bos> have none."""
    logits = at_least_float32(logits).clone()
    logits[..., NEVER_SPOKEN].fill_(-torch.inf)
    return logits.log_softmax(dim=-1)


def caption_log_probs(logits: Tensor, word: Tensor) -> Tensor:
    """Log-probability of every word of given captions, of the words' shape, float32; 0 at padding.

    `logits` [..., V] are those of teacher forcing: each was computed from the words before it.
    """
    padded = word == PAD
    # Padding has the log-probability minus infinity, so another word takes its place.
    chosen = word.masked_fill(padded, logits.shape[-1] - 1)
    log_prob = word_log_probs(logits).gather(-1, chosen[..., None])[..., 0]
    return log_prob.masked_fill(padded, 0.0)


def preceding_words(caption_BSL: Tensor) -> Tensor:
    """What the decoder has read when it chooses each word: `<bos>`, then all words but the last."""
    return torch.cat([torch.full_like(caption_BSL[..., :1], BOS), caption_BSL[..., :-1]], dim=-1)


def greedy(step: Step, state: State, num_images: int, *, max_length: int) -> Tensor:
    """The likeliest word at every position, [B, 1, L] int64."""
    return _extend(
        step, state, (num_images, 1), max_length, choose=lambda log_prob_BSV, _: log_prob_BSV.argmax(-1)
    )


def sample(
    step: Step,
    state: State,
    num_images: int,
    *,
    num_samples: int,
    max_length: int,
    rules: Sequence[Rule] = (),
    generators: Sequence[torch.Generator] | None = None,
    exponential: Callable[[int], Tensor] | None = None,
    fixed_shapes: bool = False,
) -> Tensor:
    """Independent draws from the model, as `rules` change it, [B, S, L] int64.

    The draws depend only on the shapes and the generator, not on which captions have ended. With one of
    `generators` for each image, on the model's device, the draws of an image do not depend on the other
    images either; nor do they with `exponential`, which gives exponential numbers [B, n] for n, others at
    each call. Without both, randomness comes from torch's global generator. With `fixed_shapes`, captions
    that have ended stay in the batch up to the last position, L is `max_length`, and no step waits for the
    device, as a CUDA graph needs it; the draws are the same. Where rules leave no word, <unk> is said.
    """

    def draw(log_prob_BSV: Tensor, row_BS: Tensor) -> Tensor:
        # Gumbel-max: an exact draw from the softmax without its cumulative sum.
        shape_NV = (num_images * num_samples, log_prob_BSV.shape[-1])
        if exponential is not None:
            noise_NV = exponential(num_samples * shape_NV[1]).view(shape_NV)
            return (log_prob_BSV - noise_NV[row_BS].log()).argmax(dim=-1)
        noise_NV = log_prob_BSV.new_empty(shape_NV)
        if generators is None:
            noise_NV.exponential_()
        else:
            for noise_SV, generator in zip(noise_NV.split(num_samples), generators, strict=True):
                noise_SV.exponential_(generator=generator)
        return (log_prob_BSV - noise_NV.clamp_(min=1e-30)[row_BS].log()).argmax(dim=-1)

    shape_BS = (num_images, num_samples)
    return _extend(step, state, shape_BS, max_length, choose=draw, rules=rules, fixed_shapes=fixed_shapes)


def _extend(
    step: Step,
    state: State,
    shape: tuple[int, int],
    max_length: int,
    *,
    choose: Callable[[Tensor, Tensor], Tensor],
    rules: Sequence[Rule] = (),
    fixed_shapes: bool = False,
) -> Tensor:
    """Add one chosen word at a time until every caption has ended or is full.

    Captions that have ended leave the batch as far as it stays rectangular: an image when all of its captions
    have ended, and as many captions of every image as have ended in each. `choose` gets log-probabilities
    [B, S, V] and the rows [B, S] that these captions had at first.
    """
    device = state.device
    row_BS = torch.arange(math.prod(shape), device=device).view(shape)
    word_BS = torch.full(shape, BOS, device=device)
    caption_NL = torch.full((math.prod(shape), max_length), PAD, device=device)
    for position in range(max_length):
        logits_BSV, state = step(word_BS, state)
        ended_BS = (word_BS == EOS) | (word_BS == PAD)
        log_prob_BSV = word_log_probs(logits_BSV)
        if rules:
            spoken = Spoken(row_BS[:, 0] // shape[1], caption_NL[row_BS, :position])
            for rule in rules:
                rule(log_prob_BSV, spoken)
        word_BS = torch.where(ended_BS, PAD, choose(log_prob_BSV, row_BS))
        caption_NL[row_BS, position] = word_BS
        if fixed_shapes:
            continue
        kept = _still_open((word_BS != EOS) & (word_BS != PAD))
        if kept is None:
            break
        image_B, place_BS = kept
        if place_BS.shape != word_BS.shape:
            old_BS = image_B[:, None] * word_BS.shape[1] + place_BS
            whole = len(image_B) == len(word_BS)
            state = state.select(old_BS.flatten(), None if whole else image_B)
            row_BS, word_BS = row_BS.flatten()[old_BS], word_BS.flatten()[old_BS]
    return caption_NL.view(*shape, max_length)[..., : position + 1]


def _still_open(open_BS: Tensor) -> tuple[Tensor, Tensor] | None:
    """Which images have open captions [B'], and for each of them the indices of these [B', S'] int64.

    S' is the most open captions of any image; images with fewer keep some that have ended.
    None: all have ended.
    """
    image_B = open_BS.any(dim=1).nonzero()[:, 0]
    if not len(image_B):
        return None
    most = int(open_BS.sum(dim=1).max())
    place_BS = open_BS[image_B].long().argsort(dim=1, descending=True, stable=True)
    return image_B, place_BS[:, :most]
