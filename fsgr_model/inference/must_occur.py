"""Phrases that a caption must contain, in beam search (Post and Vilar, arXiv 1804.06609).

Hypotheses are compared with those that have met as much: there is a bank for each number of words met, and
the places of the beam are dealt to the banks in turn. Which words of a phrase are met is that of a finite
automaton (Knuth, Morris and Pratt), so phrases may overlap and begin again.

Shapes: B images, S hypotheses per image, P words so far, V words, K places of the beam.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fsgr_model.inference.decoding import Spoken
from fsgr_model.inference.rules import Phrase
from fsgr_model.text.vocabulary import EOS


class MustOccur:
    """A rule, and what each hypothesis has met.

    Args:
        phrases: different phrases of one or more words each.
        num_words: V.
        most_words: of a caption; a hypothesis that is left too few words for a phrase is given up.
        device: where the search runs.
    """

    def __init__(
        self, phrases: Sequence[Phrase], *, num_words: int, most_words: int, device: torch.device
    ) -> None:
        self.most_words = most_words
        # The state after each word, by state: how many words of the phrase are met.
        self.tables = [_automaton(phrase, num_words).to(device) for phrase in phrases]
        self.shared = shared_words(phrases)
        self.num_banks = 1 + sum(map(len, phrases))

    def __call__(self, log_prob_BSV: Tensor, spoken: Spoken) -> None:
        """Forbid the end until all is met, and words after which the phrases have no room any more."""
        left = max(self.most_words - spoken.length - 1, 0)
        states = self._states(spoken.word_BSP)
        for table, state_BS in zip(self.tables, states, strict=True):
            log_prob_BSV[..., EOS].masked_fill_(state_BS < len(table) - 1, -torch.inf)
        # Only near the end are there too few positions for anything.
        if left < self.num_banks - 1:
            children = [table[state_BS] for table, state_BS in zip(self.tables, states, strict=True)]
            log_prob_BSV.masked_fill_(self.words_missing(children) > left, -torch.inf)

    @property
    def fewest_words(self) -> int:
        """No caption with fewer words has all phrases; where they overlap, it may need more."""
        nothing = [torch.zeros((), dtype=torch.int16)] * len(self.tables)
        return int(self.words_missing(nothing))

    def words_missing(self, states: Sequence[Tensor]) -> Tensor:
        """At least how many words must follow, given how many of each phrase are met; of the states' shape.

        Phrases that are not met follow each other, each sharing at most its `shared` words with the one
        before it; the first of them shares those that are met.
        """
        missing = torch.zeros_like(states[0])
        saved = torch.full_like(states[0], -self.num_banks)
        longest = torch.zeros_like(states[0])
        for state, table, shared in zip(states, self.tables, self.shared, strict=True):
            whole = len(table) - 1
            missing += (state < whole) * (whole - shared)
            saved = saved.maximum(torch.where(state < whole, state - shared, -self.num_banks))
            longest = longest.maximum(whole - state)
        return torch.where(longest > 0, (missing - saved).maximum(longest), 0)

    def bank(self, spoken: Spoken) -> Tensor:
        """How many words of the phrases are met after each next word, [B, S, V] int16."""
        states = zip(self.tables, self._states(spoken.word_BSP), strict=True)
        return torch.stack([table[state_BS] for table, state_BS in states]).sum(dim=0, dtype=torch.int16)

    def _states(self, word_BSP: Tensor) -> list[Tensor]:
        """The state [B, S] of each phrase. It is counted anew, so nothing follows hypotheses around."""
        states = []
        for table in self.tables:
            state_BS = word_BSP.new_zeros(word_BSP.shape[:-1])
            for word_BS in word_BSP.unbind(dim=-1):
                state_BS = table[state_BS, word_BS].long()
            states.append(state_BS)
        return states

    def choose(self, rank_BSV: Tensor, spoken: Spoken, count: int) -> tuple[Tensor, Tensor]:
        """The children kept: their ranks and their indices into S * V, [B, K] both, the best first.

        The banks choose in turn, the fullest one first, each the best of its children that are left; a bank
        that has none leaves its place to the others. Where there are too few children, the rank is minus
        infinity and the index means nothing.
        """
        bank_BN, rank_BN = self.bank(spoken).flatten(1), rank_BSV.flatten(1)
        count = min(count, rank_BN.shape[1])
        found = [
            rank_BN.masked_fill(bank_BN != bank, -torch.inf).topk(count, dim=1)
            for bank in reversed(range(self.num_banks))
        ]
        rank_BN = torch.stack([each.values for each in found], dim=2).flatten(1)
        index_BN = torch.stack([each.indices for each in found], dim=2).flatten(1)
        dealt_BK = (rank_BN == -torch.inf).long().argsort(dim=1, stable=True)[:, :count]
        rank_BK, order_BK = rank_BN.gather(1, dealt_BK).sort(dim=1, descending=True, stable=True)
        return rank_BK, index_BN.gather(1, dealt_BK).gather(1, order_BK)


def shared_words(phrases: Sequence[Phrase]) -> list[int]:
    """How many words of each phrase another can have said already: of its longest beginning that ends another
    phrase, or all where another contains it.
    """
    return [
        max((_shared(other, phrase) for other in phrases if other != phrase), default=0) for phrase in phrases
    ]


def _shared(first: Phrase, then: Phrase) -> int:
    n = len(then)
    if any(first[start : start + n] == then for start in range(len(first) - n + 1)):
        return n
    return next(k for k in range(min(len(first), n), -1, -1) if first[len(first) - k :] == then[:k])


def _automaton(phrase: Phrase, num_words: int) -> Tensor:
    """The next state by state and word, [words of the phrase + 1, V] int16; the last state is never left."""
    whole = len(phrase)
    table = torch.zeros(whole + 1, num_words, dtype=torch.int16)
    table[whole] = whole
    for state in range(whole):
        for word in set(phrase):
            said = (*phrase[:state], word)
            met = next(n for n in range(len(said), -1, -1) if said[len(said) - n :] == phrase[:n])
            table[state, word] = met
    return table
