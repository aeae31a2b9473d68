"""The interface of a loss that is added to cross-entropy."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from fsgr_model.network.captioner import Encoded
from fsgr_model.training.batches import Batch
from fsgr_model.training.task import Step


@dataclass(frozen=True)
class Term:
    """A named scalar `loss` (float32) that enters the sum with `weight`; reported without it."""

    name: str
    weight: float
    loss: Tensor


class AuxiliaryLoss(Protocol):
    """A loss on encoded images. `heads`: its own weights, an empty module where it has none."""

    heads: nn.Module

    def terms(self, encoded: Encoded, batch: Batch, step: Step) -> list[Term]:
        """The terms of this step; a term whose weight is 0 is left out."""
