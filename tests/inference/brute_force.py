"""A small decoder, every caption that it can say, and a beam search without tensors, cache or batches.

The search reads all words again at every step, keeps hypotheses in lists and asks plain questions of them.
"""

import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial

import torch

from fsgr_model.inference.decoding import Step, word_log_probs
from fsgr_model.network.decoder import CaptionDecoder, DecoderState
from fsgr_model.text.vocabulary import BOS, EOS, PAD

B, V, D, MAX_LENGTH = 3, 7, 16, 5
WORDS = range(EOS + 1, V)
Caption = tuple[int, ...]
Allowed = Callable[[Caption], bool]


def small_decoder(seed: int = 3) -> tuple[CaptionDecoder, DecoderState]:
    """A decoder of three words and the special ones, at the start of three images."""
    torch.manual_seed(seed)
    decoder = CaptionDecoder(torch.randn(V, D), D, num_heads=2, d_ff=32, num_layers=2, dropout=0.0).eval()
    with torch.no_grad():
        decoder.output.weight.mul_(1.5)
        return decoder, decoder.start(3 * torch.randn(B, 5, D), torch.randn(5, D))


def step_of(decoder: CaptionDecoder) -> Step:
    def step(word_BS, state):
        logits, state = decoder(word_BS[..., None], state)
        return logits[..., 0, :], state

    return step


def every_caption() -> list[Caption]:
    """All that end, and all that are cut at the last position."""
    ended = [(*body, EOS) for length in range(MAX_LENGTH) for body in itertools.product(WORDS, repeat=length)]
    return ended + list(itertools.product(WORDS, repeat=MAX_LENGTH))


@torch.no_grad()
def log_probs(decoder: CaptionDecoder, start: DecoderState, captions: list[Caption]) -> torch.Tensor:
    """Of each word of each caption, without a cache: [B, captions, MAX_LENGTH], 0 after the end."""
    padded = torch.full((len(captions), MAX_LENGTH), PAD)
    for row, caption in enumerate(captions):
        padded[row, : len(caption)] = torch.tensor(caption)
    caption_BSL = padded.expand(B, -1, -1)
    given = torch.cat([torch.full_like(caption_BSL[..., :1], BOS), caption_BSL[..., :-1]], dim=-1)
    log_prob = word_log_probs(decoder(given, start)[0])
    chosen = caption_BSL.masked_fill(caption_BSL == PAD, EOS)[..., None]
    return log_prob.gather(-1, chosen)[..., 0].masked_fill(caption_BSL == PAD, 0)


def words_of(row: torch.Tensor) -> Caption:
    return tuple(word for word in row.tolist() if word != PAD)


def body(caption: Caption) -> Caption:
    """Its words without the end token."""
    return tuple(word for word in caption if word != EOS)


def contains(caption: Caption, phrase: Caption) -> bool:
    return any(caption[start : start + len(phrase)] == phrase for start in range(len(caption)))


def repeats(caption: Caption, order: int) -> bool:
    ngrams = [body(caption)[start : start + order] for start in range(len(body(caption)) - order + 1)]
    return len(set(ngrams)) < len(ngrams)


def scaled(score: float, positions: int, penalty: float) -> float:
    return score / ((5 + positions) / 6) ** penalty


class PlainSearch:
    """A beam search of image `b`."""

    def __init__(self, decoder: CaptionDecoder, start: DecoderState, b: int) -> None:
        captions = every_caption()
        of_image = log_probs(decoder, start, captions)[b].tolist()
        # The log-probability of the last word of every beginning.
        self.last = {
            caption[: n + 1]: row[n]
            for caption, row in zip(captions, of_image, strict=True)
            for n in range(len(caption))
        }

    def children(self, caption: Caption) -> list[Caption]:
        if EOS in caption:
            return [caption]
        return [(*caption, word) for word in (EOS, *WORDS) if (*caption, word) in self.last]

    def search(
        self,
        beam_size: int,
        allowed: Allowed = lambda caption: True,
        *,
        bank: Callable[[Caption], int] = lambda caption: 0,
        penalty: float = 0.0,
    ) -> list[Caption]:
        """The best first; `allowed` judges beginnings too. Banks choose in turn, the highest first."""
        beam: dict[Caption, float] = {(): 0.0}
        for _ in range(MAX_LENGTH):
            found = {
                child: score + (self.last[child] if child != parent else 0)
                for parent, score in beam.items()
                for child in self.children(parent)
                if allowed(child)
            }
            beam = _kept(found, beam_size, bank, partial(_rank, found, penalty))
        return list(beam)

    def groups(self, count: int, size: int, strength: float) -> list[list[Caption]]:
        """All groups side by side, position by position (arXiv 1610.02424, algorithm 1)."""
        beams: list[dict[Caption, float]] = [{(): 0.0} for _ in range(count)]
        for position in range(MAX_LENGTH):
            said: Counter[int] = Counter()
            for group, beam in enumerate(beams):
                found = {
                    child: score + (self.last[child] - strength * said[child[-1]] if child != parent else 0)
                    for parent, score in beam.items()
                    for child in self.children(parent)
                }
                beams[group] = _kept(found, size, lambda caption: 0, found.__getitem__)
                said.update(each[position] for each in beams[group] if len(each) > position)
        return [list(beam) for beam in beams]


def _rank(scores: dict[Caption, float], penalty: float, caption: Caption) -> float:
    return scaled(scores[caption], len(caption), penalty)


def _kept(
    scores: dict[Caption, float],
    count: int,
    bank: Callable[[Caption], int],
    rank: Callable[[Caption], float],
) -> dict[Caption, float]:
    banks: dict[int, list[Caption]] = {}
    for caption in sorted(scores, key=rank, reverse=True):
        banks.setdefault(bank(caption), []).append(caption)
    turns = itertools.zip_longest(*(banks[each] for each in sorted(banks, reverse=True)))
    dealt = [caption for turn in turns for caption in turn if caption is not None][:count]
    return {caption: scores[caption] for caption in sorted(dealt, key=rank, reverse=True)}
