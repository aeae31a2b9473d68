"""Several networks of one word list that choose each word together, by the mean of their probabilities.

They may differ in all else: size, seed, parameters, CLIP. Each keeps its own keys and values.

Shapes: B images, S captions per image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fsgr_model.inference.decoding import Step, word_log_probs
from fsgr_model.network.decoder import DecoderState
from fsgr_model.runtime.errors import UserError
from fsgr_model.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class EnsembleState:
    """The state of each network's decoder."""

    states: tuple[DecoderState, ...]

    @property
    def device(self) -> torch.device:
        return self.states[0].device

    def select(self, row_N: Tensor, image_B: Tensor | None = None) -> "EnsembleState":
        """As `DecoderState.select`."""
        return EnsembleState(tuple(state.select(row_N, image_B) for state in self.states))


def mean_probabilities(logits: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean of the networks' word probabilities, float32, of the shape of each."""
    log_probs = torch.stack([word_log_probs(each) for each in logits])
    return log_probs.logsumexp(dim=0) - math.log(len(logits))


class Reads(Protocol):
    """A network that reads words, a `Captioner` or what runs one."""

    def step(self, word_BS: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """As `Captioner.step`."""


def step_together(captioners: Sequence[Reads]) -> Step:
    """Reads one more word of every caption by all networks, whose state is an `EnsembleState`."""

    def step(word_BS: Tensor, state: EnsembleState) -> tuple[Tensor, EnsembleState]:
        read = [captioner.step(word_BS, own) for captioner, own in zip(captioners, state.states, strict=True)]
        return mean_probabilities([logits for logits, _ in read]), EnsembleState(
            tuple(own for _, own in read)
        )

    return step


def refuse_other_words(first: Vocabulary, other: Vocabulary, name: str) -> None:
    """Refuse a network, called `name` in the message, whose word list is not that of the first.

    Raises:
        UserError: the lists differ.
    """
    if first.words != other.words:
        both = len(set(first.words) & set(other.words))
        raise UserError(
            f"{name} of the ensemble has another word list than the first: {len(other.words)} and "
            f"{len(first.words)} words, {both} of them in both; only models of one list in one order can "
            "choose words together (vocab.words can name its file)"
        )
