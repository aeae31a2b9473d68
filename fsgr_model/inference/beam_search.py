"""Beam search: one loop, in which rules change what may be said and a choice says which hypotheses stay.

Shapes: B images, S hypotheses per image, L positions, V words, K places of the beam.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fsgr_model.inference.decoding import Rule, Spoken, State, Step, word_log_probs
from fsgr_model.inference.must_occur import MustOccur
from fsgr_model.inference.rules import Unlike
from fsgr_model.text.vocabulary import BOS, EOS, PAD


@dataclass(frozen=True)
class Guidance:
    """What is asked of a beam search; by default nothing.

    rules: change the log-probabilities of the next words, in order.
    must: phrases that captions contain. Then `beam_size` hypotheses are kept for each number of their words
        that may be met.
    penalty: hypotheses are ranked by score / ((5 + positions) / 6)^penalty (Wu et al., arXiv 1609.08144,
        equation 14).
    """

    rules: Sequence[Rule] = ()
    must: MustOccur | None = None
    penalty: float = 0.0


NOTHING_ASKED = Guidance()


def beam_search(
    step: Step,
    state: State,
    num_images: int,
    *,
    beam_size: int,
    max_length: int,
    guidance: Guidance = NOTHING_ASKED,
    note: Callable[[Spoken], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """The likeliest captions that keep `beam_size` hypotheses per image at every position.

    The score is the sum of log-probabilities, the end token's included, without length normalisation but
    with what rules add to it; an ended hypothesis keeps its score and its rank until better ones displace it.
    An image leaves the batch when all of its hypotheses have ended. Memory grows with S * L, not with the
    size of the vocabulary. `note` is told the hypotheses after every position, before images leave.

    Returns:
        captions [B, S, L] int64, the best first, and their scores [B, S] float32; S is below `beam_size` only
        where there are not as many captions. Where rules allow fewer, the others have minus infinity and
        nothing but <pad>.
    """
    must = guidance.must
    rules = guidance.rules if must is None else [*guidance.rules, must]
    size = beam_size if must is None else beam_size * must.num_banks
    # There is one hypothesis at the start, so that the first step gives different children.
    beams = _Beams.start(num_images, state.device)
    finished: list[_Beams] = []
    for _ in range(max_length):
        logits_BSV, state = step(beams.word_BS, state)
        log_prob_BSV = word_log_probs(logits_BSV)
        for rule in rules:
            rule(log_prob_BSV, beams.spoken)
        beams, row_BS = beams.extended(log_prob_BSV, size, guidance)
        if note is not None:
            note(beams.spoken)
        open_B = ~beams.ended_BS.all(dim=1)
        image_B = open_B.nonzero()[:, 0]
        whole = len(image_B) == len(open_B)
        if not whole:
            finished.append(beams.of_images((~open_B).nonzero()[:, 0]))
            beams, row_BS = beams.of_images(image_B), row_BS[image_B]
        if not len(image_B):
            break
        state = state.select(row_BS.flatten(), None if whole else image_B)
    caption_BSL, score_BS = (each[:, :beam_size] for each in _together([*finished, beams]))
    return caption_BSL.masked_fill((score_BS == -torch.inf)[..., None], PAD), score_BS


def diverse_beam_search(
    step: Step,
    state: State,
    num_images: int,
    *,
    groups: int,
    beam_size: int,
    strength: float,
    max_length: int,
    guidance: Guidance = NOTHING_ASKED,
) -> tuple[Tensor, Tensor]:
    """A beam search per group, each kept from the words of the ones before it (`rules.Unlike`).

    A group depends at each position on the earlier groups at that position alone, so that one search after
    the other finds what all of them side by side do (Vijayakumar et al., arXiv 1610.02424, algorithm 1).

    Returns:
        as `beam_search`; the best caption of each group, then the second of each, and so on.
    """
    unlike = Unlike(num_images, strength)
    guidance = replace(guidance, rules=[*guidance.rules, unlike])
    found = [
        beam_search(
            step,
            state,
            num_images,
            beam_size=beam_size // groups,
            max_length=max_length,
            guidance=guidance,
            note=unlike.note,
        )
        for _ in range(groups)
    ]
    longest = max(caption_BSL.shape[-1] for caption_BSL, _ in found)
    captions = [_filled(caption_BSL, longest) for caption_BSL, _ in found]
    scores = [score_BS for _, score_BS in found]
    return torch.stack(captions, dim=2).flatten(1, 2), torch.stack(scores, dim=2).flatten(1, 2)


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

    @property
    def spoken(self) -> Spoken:
        """What rules may know."""
        return Spoken(self.image_B, self.caption_BSL)

    def extended(
        self, log_prob_BSV: Tensor, beam_size: int, guidance: Guidance = NOTHING_ASKED
    ) -> tuple["_Beams", Tensor]:
        """The best of all children, and the decoder row of each one's parent [B, S]."""
        B, S, V = log_prob_BSV.shape
        candidate_BSV = self.score_BS[..., None] + _only_pad_after_end(log_prob_BSV, self.ended_BS)
        if guidance.must is None and not guidance.penalty:
            score_BS, choice_BS = candidate_BSV.flatten(1).topk(min(beam_size, S * V), dim=-1)
        else:
            score_BS, choice_BS = self._ranked(candidate_BSV, beam_size, guidance)
        parent_BS, word_BS = choice_BS // V, choice_BS % V
        ended_BS = self.ended_BS.gather(1, parent_BS) | (word_BS == EOS)
        if guidance.rules or guidance.must is not None:
            # What is forbidden says nothing more, and does not keep an image in the batch.
            dead_BS = score_BS == -torch.inf
            word_BS, ended_BS = word_BS.masked_fill(dead_BS, PAD), ended_BS | dead_BS
        earlier_BSL = self.caption_BSL.gather(
            1, parent_BS[..., None].expand(-1, -1, self.caption_BSL.shape[-1])
        )
        caption_BSL = torch.cat([earlier_BSL, word_BS[..., None]], dim=-1)
        row_BS = torch.arange(B, device=parent_BS.device)[:, None] * S + parent_BS
        return _Beams(self.image_B, caption_BSL, word_BS, score_BS, ended_BS), row_BS

    def _ranked(self, candidate_BSV: Tensor, beam_size: int, guidance: Guidance) -> tuple[Tensor, Tensor]:
        """Scores and indices [B, S] of the children that are kept, the best of rank first."""
        open_BS, length_BS = ~self.ended_BS, (self.caption_BSL != PAD).sum(dim=-1)
        scale_BS = ((5 + length_BS + open_BS) / 6) ** guidance.penalty
        rank_BSV = candidate_BSV / scale_BS[..., None]
        if guidance.must is None:
            rank_BN = rank_BSV.flatten(1)
            rank_BS, choice_BS = rank_BN.topk(min(beam_size, rank_BN.shape[1]), dim=-1)
        else:
            rank_BS, choice_BS = guidance.must.choose(rank_BSV, self.spoken, beam_size)
        score_BS = candidate_BSV.flatten(1).gather(1, choice_BS)
        return score_BS.masked_fill(rank_BS == -torch.inf, -torch.inf), choice_BS

    def of_images(self, place_B: Tensor) -> "_Beams":
        """The hypotheses of some of the images, by index."""
        parts = (self.image_B, self.caption_BSL, self.word_BS, self.score_BS, self.ended_BS)
        return _Beams(*(part[place_B] for part in parts))


def _together(parts: Sequence[_Beams]) -> tuple[Tensor, Tensor]:
    """Captions and scores of all images in their order; captions filled up with <pad>."""
    longest = max(part.caption_BSL.shape[-1] for part in parts)
    padded = [_filled(part.caption_BSL, longest) for part in parts]
    order_B = torch.cat([part.image_B for part in parts]).argsort()
    scores = torch.cat([part.score_BS for part in parts])
    return torch.cat(padded)[order_B], scores[order_B]


def _filled(caption_BSL: Tensor, length: int) -> Tensor:
    """Captions of `length` positions, filled up with <pad>."""
    return F.pad(caption_BSL, (0, length - caption_BSL.shape[-1]), value=PAD)


def _only_pad_after_end(log_prob_BSV: Tensor, ended_BS: Tensor) -> Tensor:
    """An ended hypothesis continues with <pad> at no cost, and with nothing else."""
    padded_V = torch.full_like(log_prob_BSV[0, 0], -torch.inf)
    padded_V[PAD] = 0.0
    return torch.where(ended_BS[..., None], padded_V, log_prob_BSV)
