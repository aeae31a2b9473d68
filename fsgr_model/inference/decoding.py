"""Greedy decoding, sampling and beam search: plain functions over a step and its state.

Shapes: B images, S captions (samples or beams) per image, L positions, V words.
A caption is a row of word ids without <bos>; it ends with <eos>, then <pad>; one that was cut at
`max_length` positions has no <eos>.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fsgr_model.network.decoder import DecoderState
from fsgr_model.runtime.device import at_least_float32
from fsgr_model.text.vocabulary import BOS, EOS, PAD, UNK

Step = Callable[[Tensor, DecoderState], tuple[Tensor, DecoderState]]
"""The last words [B, S] int64 and the state in; logits [B, S, V] of the next words and the new state out."""

NEVER_SPOKEN = (UNK, PAD, BOS)


def word_log_probs(logits: Tensor) -> Tensor:
    """Log-probabilities of the words that a caption may have, float32; <unk>, <pad> and <bos> have none."""
    logits = at_least_float32(logits).clone()
    # One after the other: a list of indices would be copied to the device, which a CUDA graph cannot record.
    for word in NEVER_SPOKEN:
        logits[..., word].fill_(-torch.inf)
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


def greedy(step: Step, state: DecoderState, num_images: int, max_length: int) -> Tensor:
    """The likeliest word at every position, [B, 1, L] int64."""
    return _extend(
        step, state, (num_images, 1), max_length, choose=lambda log_prob_BSV, _: log_prob_BSV.argmax(-1)
    )


def sample(
    step: Step,
    state: DecoderState,
    num_images: int,
    *,
    num_samples: int,
    max_length: int,
    generators: Sequence[torch.Generator] | None = None,
    exponential: Callable[[int], Tensor] | None = None,
    fixed_shapes: bool = False,
) -> Tensor:
    """Independent draws from the model, [B, S, L] int64.

    The draws depend only on the shapes and the generator, not on which captions have ended. With one of
    `generators` for each image, on the model's device, the draws of an image do not depend on the other
    images either; nor do they with `exponential`, which gives exponential numbers [B, n] for n, others at
    each call. Without both, randomness comes from torch's global generator. With `fixed_shapes`, captions
    that have ended stay in the batch up to the last position, L is `max_length`, and no step waits for the
    device, as a CUDA graph needs it; the draws are the same.
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
    return _extend(step, state, shape_BS, max_length, choose=draw, fixed_shapes=fixed_shapes)


def _extend(
    step: Step,
    state: DecoderState,
    shape: tuple[int, int],
    max_length: int,
    *,
    choose: Callable[[Tensor, Tensor], Tensor],
    fixed_shapes: bool = False,
) -> Tensor:
    """Add one chosen word at a time until every caption has ended or is full.

    Captions that have ended leave the batch as far as it stays rectangular: an image when all of its captions
    have ended, and as many captions of every image as have ended in each. `choose` gets log-probabilities
    [B, S, V] and the rows [B, S] that these captions had at first.
    """
    device = state.layers[0].image_keys.device
    row_BS = torch.arange(math.prod(shape), device=device).view(shape)
    word_BS = torch.full(shape, BOS, device=device)
    caption_NL = torch.full((math.prod(shape), max_length), PAD, device=device)
    for position in range(max_length):
        logits_BSV, state = step(word_BS, state)
        ended_BS = (word_BS == EOS) | (word_BS == PAD)
        word_BS = torch.where(ended_BS, PAD, choose(word_log_probs(logits_BSV), row_BS))
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


def beam_search(
    step: Step, state: DecoderState, num_images: int, *, beam_size: int, max_length: int
) -> tuple[Tensor, Tensor]:
    """The likeliest captions that keep `beam_size` hypotheses per image at every position.

    The score is the sum of log-probabilities, the end token's included, without length normalisation;
    an ended hypothesis keeps its score and its rank until better ones displace it. An image leaves the batch
    when all of its hypotheses have ended. Memory grows with S * L, not with the size of the vocabulary.

    Returns:
        captions [B, S, L] int64, the best first, and their log-probabilities [B, S] float32; S is below
        `beam_size` only where there are not as many captions.
    """
    device = state.layers[0].image_keys.device
    # There is one hypothesis at the start, so that the first step gives different children.
    beams = _Beams.start(num_images, device)
    finished: list[_Beams] = []
    for _ in range(max_length):
        logits_BSV, state = step(beams.word_BS, state)
        beams, row_BS = beams.extended(word_log_probs(logits_BSV), beam_size)
        open_B = ~beams.ended_BS.all(dim=1)
        image_B = open_B.nonzero()[:, 0]
        whole = len(image_B) == len(open_B)
        if not whole:
            finished.append(beams.of_images((~open_B).nonzero()[:, 0]))
            beams, row_BS = beams.of_images(image_B), row_BS[image_B]
        if not len(image_B):
            break
        state = state.select(row_BS.flatten(), None if whole else image_B)
    return _together([*finished, beams])


@dataclass(frozen=True)
class _Beams:
    """Hypotheses of some images: image, words, last word, score, and whether they ended."""

    image_B: Tensor
    caption_BSL: Tensor
    word_BS: Tensor
    score_BS: Tensor
    ended_BS: Tensor

    @classmethod
    def start(cls, num_images: int, device: torch.device) -> "_Beams":
        """One empty hypothesis per image."""
        shape = (num_images, 1)
        return cls(
            torch.arange(num_images, device=device),
            torch.empty((*shape, 0), dtype=torch.int64, device=device),
            torch.full(shape, BOS, device=device),
            torch.zeros(shape, device=device),
            torch.zeros(shape, dtype=torch.bool, device=device),
        )

    def extended(self, log_prob_BSV: Tensor, beam_size: int) -> tuple["_Beams", Tensor]:
        """The best of all children, and the decoder row of each one's parent [B, S]."""
        B, S, V = log_prob_BSV.shape
        candidate_BSV = self.score_BS[..., None] + _only_pad_after_end(log_prob_BSV, self.ended_BS)
        score_BS, choice_BS = candidate_BSV.flatten(1).topk(min(beam_size, S * V), dim=-1)
        parent_BS, word_BS = choice_BS // V, choice_BS % V
        earlier_BSL = self.caption_BSL.gather(
            1, parent_BS[..., None].expand(-1, -1, self.caption_BSL.shape[-1])
        )
        caption_BSL = torch.cat([earlier_BSL, word_BS[..., None]], dim=-1)
        ended_BS = self.ended_BS.gather(1, parent_BS) | (word_BS == EOS)
        row_BS = torch.arange(B, device=parent_BS.device)[:, None] * S + parent_BS
        return _Beams(self.image_B, caption_BSL, word_BS, score_BS, ended_BS), row_BS

    def of_images(self, place_B: Tensor) -> "_Beams":
        """The hypotheses of some of the images, by index."""
        parts = (self.image_B, self.caption_BSL, self.word_BS, self.score_BS, self.ended_BS)
        return _Beams(*(part[place_B] for part in parts))


def _together(parts: Sequence[_Beams]) -> tuple[Tensor, Tensor]:
    """Captions and scores of all images in their order; captions filled up with <pad>."""
    longest = max(part.caption_BSL.shape[-1] for part in parts)
    padded = [F.pad(part.caption_BSL, (0, longest - part.caption_BSL.shape[-1]), value=PAD) for part in parts]
    order_B = torch.cat([part.image_B for part in parts]).argsort()
    scores = torch.cat([part.score_BS for part in parts])
    return torch.cat(padded)[order_B], scores[order_B]


def _only_pad_after_end(log_prob_BSV: Tensor, ended_BS: Tensor) -> Tensor:
    """An ended hypothesis continues with <pad> at no cost, and with nothing else."""
    padded_V = torch.full_like(log_prob_BSV[0, 0], -torch.inf)
    padded_V[PAD] = 0.0
    return torch.where(ended_BS[..., None], padded_V, log_prob_BSV)
