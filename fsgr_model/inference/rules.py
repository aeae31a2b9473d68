"""What a caption may say next: each rule changes the log-probabilities of the next words, and they compose.

Minus infinity forbids a word. Beam search and sampling apply the same rules, in order, before they choose.

Shapes: B images, S captions per image, P words said so far, V words, N words of an n-gram.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fsgr_model.inference.decoding import Spoken
from fsgr_model.text.vocabulary import EOS, PAD

Phrase = tuple[int, ...]
"""Word ids, at least one."""


@dataclass(frozen=True)
class Begin:
    """Every caption begins with these words; they keep their log-probabilities."""

    words: Phrase

    def __call__(self, log_prob_BSV: Tensor, spoken: Spoken) -> None:
        if spoken.length < len(self.words):
            _keep_only(log_prob_BSV, self.words[spoken.length])


@dataclass(frozen=True)
class MinWords:
    """No caption ends before it has so many words."""

    count: int

    def __call__(self, log_prob_BSV: Tensor, spoken: Spoken) -> None:
        if spoken.length < self.count:
            log_prob_BSV[..., EOS] = -torch.inf


@dataclass(frozen=True)
class MaxWords:
    """Every caption ends after so many words."""

    count: int

    def __call__(self, log_prob_BSV: Tensor, spoken: Spoken) -> None:
        if spoken.length >= self.count:
            _keep_only(log_prob_BSV, EOS)


@dataclass(frozen=True)
class TargetWords:
    """Every word above or below this number costs `cost`; a sum over the words of a caption."""

    count: int
    cost: float = 1.0

    def __call__(self, log_prob_BSV: Tensor, spoken: Spoken) -> None:
        missing = self.count - spoken.length
        if missing > 0:
            log_prob_BSV[..., EOS] -= self.cost * missing
        else:
            log_prob_BSV[..., :EOS] -= self.cost
            log_prob_BSV[..., EOS + 1 :] -= self.cost


@dataclass(frozen=True)
class MustNot:
    """No caption contains any of these phrases."""

    phrases: Sequence[Phrase]

    def __call__(self, log_prob_BSV: Tensor, spoken: Spoken) -> None:
        for *earlier, last in self.phrases:
            if not earlier:
                log_prob_BSV[..., last] = -torch.inf
            elif spoken.length >= len(earlier):
                recent_BSN = spoken.word_BSP[..., -len(earlier) :]
                said_BS = (recent_BSN == torch.tensor(earlier, device=recent_BSN.device)).all(dim=-1)
                log_prob_BSV[..., last].masked_fill_(said_BS, -torch.inf)


@dataclass(frozen=True)
class NoRepeat:
    """No sequence of `order` words occurs twice in a caption."""

    order: int

    def __call__(self, log_prob_BSV: Tensor, spoken: Spoken) -> None:
        if spoken.length < self.order:
            return
        word_BSP = spoken.word_BSP
        next_BSP = word_BSP[..., self.order - 1 :]
        if self.order > 1:
            window_BSPN = word_BSP.unfold(-1, self.order - 1, 1)
            again_BSP = (window_BSPN[..., :-1, :] == window_BSPN[..., -1:, :]).all(dim=-1)
            # <pad> is never said, so it takes the place of what may be.
            next_BSP = next_BSP.where(again_BSP, PAD)
        log_prob_BSV.scatter_(-1, next_BSP, -torch.inf)


@dataclass(frozen=True)
class Temperature:
    """Log-probabilities are divided by `value`; they are no longer normalised."""

    value: float

    def __call__(self, log_prob_BSV: Tensor, spoken: Spoken) -> None:
        log_prob_BSV.div_(self.value)


@dataclass(frozen=True)
class TopK:
    """Only the `count` likeliest words (Fan et al., arXiv 1805.04833), and those as likely as the last."""

    count: int

    def __call__(self, log_prob_BSV: Tensor, spoken: Spoken) -> None:
        last_BS1 = log_prob_BSV.topk(min(self.count, log_prob_BSV.shape[-1])).values[..., -1:]
        log_prob_BSV.masked_fill_(log_prob_BSV < last_BS1, -torch.inf)


@dataclass(frozen=True)
class TopP:
    """The fewest likeliest words whose probability together is at least `mass` (Holtzman et al., arXiv
    1904.09751), and those as likely as the last.
    """

    mass: float

    def __call__(self, log_prob_BSV: Tensor, spoken: Spoken) -> None:
        sorted_BSV = log_prob_BSV.sort(dim=-1, descending=True).values
        prob_BSV = sorted_BSV.softmax(dim=-1)
        likelier_BSV = prob_BSV.cumsum(dim=-1) - prob_BSV
        last_BS1 = sorted_BSV.masked_fill(likelier_BSV >= self.mass, torch.inf).amin(dim=-1, keepdim=True)
        log_prob_BSV.masked_fill_(log_prob_BSV < last_BS1, -torch.inf)


@dataclass
class Unlike:
    """A word costs `strength` for each hypothesis of an earlier group that has it at this position
    (Vijayakumar et al., arXiv 1610.02424, Hamming diversity).

    `note` takes down the hypotheses of a group at a position, after they were chosen.
    """

    num_images: int
    strength: float
    word_AS_of: dict[int, list[Tensor]] = field(default_factory=dict)

    def note(self, spoken: Spoken) -> None:
        """Take down the last words of hypotheses; images that have left say nothing more."""
        word_BS = spoken.word_BSP[..., -1]
        word_AS = torch.full((self.num_images, word_BS.shape[1]), PAD, device=word_BS.device)
        word_AS[spoken.image_B] = word_BS
        self.word_AS_of.setdefault(spoken.length - 1, []).append(word_AS)

    def __call__(self, log_prob_BSV: Tensor, spoken: Spoken) -> None:
        for word_AS in self.word_AS_of.get(spoken.length, ()):
            word_BS = word_AS[spoken.image_B]
            cost_BV = torch.zeros_like(log_prob_BSV[:, 0])
            cost_BV.scatter_add_(1, word_BS, torch.full_like(word_BS, self.strength, dtype=cost_BV.dtype))
            log_prob_BSV -= cost_BV[:, None]


def _keep_only(log_prob_BSV: Tensor, word: int) -> None:
    kept_BS = log_prob_BSV[..., word].clone()
    log_prob_BSV.fill_(-torch.inf)
    log_prob_BSV[..., word] = kept_BS
