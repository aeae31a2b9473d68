"""Beam search: a plain function over a step of the decoder and its state.

Captions and shapes are those of `decoding`: B images, S beams per image, L positions, V words.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fsgr_model.inference.decoding import Step, word_log_probs
from fsgr_model.network.decoder import DecoderState
from fsgr_model.text.vocabulary import BOS, EOS, PAD


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
