"""Cross-entropy training: the next word of the annotators' captions, and the losses beside it.

Shapes: B images, S captions, L positions, V words, N words that count.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsgr_model.kernels.cuda_graphs import ReplayedLoss
from fsgr_model.network.captioner import Captioner, Encoded
from fsgr_model.network.packing import Packing
from fsgr_model.runtime.device import at_least_float32
from fsgr_model.runtime.world import ALONE, World
from fsgr_model.text.vocabulary import PAD
from fsgr_model.training.batches import Batch, fill_up
from fsgr_model.training.image_draws import ImageDraws
from fsgr_model.training.prototypes import PrototypeSearch
from fsgr_model.training.task import Step, Task


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


class CrossEntropy(Task[Batch]):
    """Mean negative log-likelihood of the caption words and end tokens of a batch; padding is not counted.

    The weighted terms of the auxiliary losses are added.
    """

    name, section = "XE", "xe"
    uses_dropout = True

    def __init__(
        self,
        auxiliaries: Sequence[AuxiliaryLoss] = (),
        prototypes: PrototypeSearch | None = None,
        world: World = ALONE,
    ) -> None:
        """`prototypes` is fed with every batch, and renews the network's memory."""
        self.world = world
        self.auxiliaries = auxiliaries
        self.heads = nn.ModuleList(auxiliary.heads for auxiliary in auxiliaries)
        self.prototypes = prototypes
        self.can_be_cut = not auxiliaries and prototypes is None
        self.replayed: ReplayedLoss | None = None

    def loss(self, model: Captioner, batch: Batch, step: Step) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch (scalar, float32); where there are auxiliary losses, its unweighted terms."""
        alone = not self.auxiliaries and self.prototypes is None
        if alone and self.replays and batch.tokens_BTW.is_cuda and batch.image_ids:
            return self._replay(model, batch), {}
        if self.prototypes is not None:
            self.prototypes.renew_if_due()
        target_BSL = batch.caption_BSL[..., 1:]
        counted_BSL = target_BSL != PAD
        # Before the network's work is queued, since it asks the device for numbers of words.
        packing = Packing.of(counted_BSL)
        encoded = model.encode(batch.tokens_BTW)
        logits_NV, state = model.decoder(batch.caption_BSL[..., :-1], encoded.start, packing)
        if self.prototypes is not None:
            self.prototypes.record(state, packing.counted_BQ, self.draws)
        mean = F.cross_entropy(at_least_float32(logits_NV), target_BSL[counted_BSL])
        loss = self.world.part(mean, len(logits_NV))
        terms = [term for auxiliary in self.auxiliaries for term in auxiliary.terms(encoded, batch, step)]
        if not terms:
            return loss, {}
        values = torch.stack([loss, *(term.loss for term in terms)])
        report = dict(zip(["xe", *(term.name for term in terms)], values.tolist(), strict=True))
        return values @ values.new_tensor([1.0, *(term.weight for term in terms)]), report

    def _replay(self, model: Captioner, batch: Batch) -> Tensor:
        """The loss on a GPU, where a step of few images takes as long as its kernels take to launch."""
        if self.replayed is None:
            self.replayed = ReplayedLoss(partial(padded_loss, model, draws=self.draws), model)
        caption_BSL = fill_up(batch.caption_BSL)
        if self.draws is None:
            return self.replayed(batch.tokens_BTW, caption_BSL)
        mean = self.replayed(batch.tokens_BTW, self._shaped_as_all(caption_BSL), self.draws.key_B)
        return self.world.part(mean, (batch.caption_BSL[..., 1:] != PAD).sum())

    def _shaped_as_all(self, caption_BSL: Tensor) -> Tensor:
        """With <pad> up to the most captions and words of any process: on these the masks depend."""
        shapes = self.world.everyones(tuple(caption_BSL.shape[1:]))
        (S, L), (own_S, own_L) = (max(sizes) for sizes in zip(*shapes, strict=True)), caption_BSL.shape[1:]
        return F.pad(caption_BSL, (0, L - own_L, 0, S - own_S), value=PAD)

    def weights(self, model: Captioner) -> dict[str, Tensor]:
        """The trained weights, without CLIP's frozen ones."""
        return model.checkpoint_tensors()

    def warning(self, model: Captioner, means: dict[str, float]) -> str | None:
        """A uniform guess over all words has the loss ln V."""
        uniform = math.log(len(model.decoder.word_embedding.weight))
        loss = means.get("xe", means["loss"])
        if loss < uniform:
            return None
        return (
            f"the loss {loss:.3f} is not below that of blind guessing, ln V = {uniform:.3f}: nothing is "
            "being learned; look at the learning rates above, the captions and the features"
        )

    def tensors(self) -> dict[str, Tensor]:
        """The heads of the auxiliary losses, and the banks of the prototypes."""
        heads = {f"heads.{name}": weight for name, weight in self.heads.state_dict().items()}
        return heads if self.prototypes is None else heads | self.prototypes.banks.tensors()

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Load both."""
        self.heads.load_state_dict({name: tensors[f"heads.{name}"] for name in self.heads.state_dict()})
        if self.prototypes is not None:
            self.prototypes.banks.load(tensors)


def padded_loss(
    model: Captioner,
    tokens_BTW: Tensor,
    caption_BSL: Tensor,
    key_B: Tensor | None = None,
    *,
    draws: ImageDraws | None = None,
) -> Tensor:
    """The mean negative log-likelihood, of captions that are read with their padding: shapes are fixed.

    `key_B`: the keys of the images where random numbers are drawn by image, by `draws`.
    """
    if draws is not None and key_B is not None:
        draws.begin(key_B)
    logits_BSLV = model(tokens_BTW, caption_BSL[..., :-1])
    target_BSL = caption_BSL[..., 1:]
    return F.cross_entropy(logits_BSLV.float().flatten(0, 2), target_BSL.flatten(), ignore_index=PAD)
