"""Patch contrast: patches with the same label are pulled together, all others apart (FSGR, IEEE TCSVT 2025).

The loss is that of supervised contrastive learning (Khosla et al., arXiv 2004.11362, eq. 2). Labels are the
MaskCLIP label maps; a label map has no background, so every patch has a label. The features are the embedded
patches, before the text grids come in.

Shapes: B images, G patches, D width, N = B * G patches of a batch, M anchors.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fsgr_model.network.captioner import Encoded
from fsgr_model.runtime.device import at_least_float32
from fsgr_model.runtime.world import ALONE, World
from fsgr_model.training.batches import Batch
from fsgr_model.training.task import Step
from fsgr_model.training.xe import Term

# As in the reference copy, whose loss has the wrong sign.
TEMPERATURE = 0.07
# The number of similarities computed at once, in a few tensors of this size: 16 MiB of float32.
SIMILARITIES_PER_CHUNK = 2**22


class PatchContrast:
    """The loss over at most `max_anchors` patches of a batch, which are drawn again in each step.

    An anchor is compared with all patches of the batch, so a drawn subset gives the mean over all anchors
    without bias (drawing is a choice of ours: it bounds the time, as the chunks bound the memory).
    """

    def __init__(self, weight: float, max_anchors: int, world: World = ALONE) -> None:
        """Of several processes, each takes some of the anchors and compares them with the patches of all."""
        self.heads = nn.Module()
        self.weight = weight
        self.max_anchors = max_anchors
        self.world = world

    def terms(self, encoded: Encoded, batch: Batch, step: Step) -> list[Term]:
        """The one term `contrast`; `batch.label_BG` must be there."""
        assert batch.label_BG is not None
        label_N = self.world.gather(batch.label_BG.flatten())
        feature_ND = self.world.gather(encoded.visual_BGD.flatten(0, 1))
        anchor_M = self._anchors(len(label_N), step).to(label_N.device)
        own_M = anchor_M[self.world.rank :: self.world.size]
        loss = supervised_contrast(feature_ND, label_N, own_M, of=len(anchor_M))
        return [Term("contrast", self.weight, loss)]

    def _anchors(self, patches: int, step: Step) -> Tensor:
        if patches <= self.max_anchors:
            return torch.arange(patches)
        return torch.from_numpy(step.generator("anchors").permutation(patches)[: self.max_anchors])


def supervised_contrast(
    feature_ND: Tensor, label_N: Tensor, anchor_M: Tensor, of: int | None = None
) -> Tensor:
    """Mean over the anchors of -1/|P| sum over P of log softmax(z . z / 0.07), float32 also under autocast.

    P are the anchor's positives: the other patches with its label, from any image of the batch. An anchor
    without one adds 0 to the sum and still counts in the mean. Memory grows with N, not with N * M.

    Args:
        feature_ND: one row per patch; normalised here.
        label_N: int64.
        anchor_M: int64 rows of the patches that are anchors, each once.
        of: the anchors of the whole mean, where these are a part of them.

    Returns:
        a scalar.
    """
    assert len(feature_ND) > 1, "a patch needs another patch to be compared with"
    with torch.autocast(feature_ND.device.type, enabled=False):
        return ChunkedContrast.apply(
            F.normalize(at_least_float32(feature_ND), dim=-1), label_N, anchor_M, of or len(anchor_M)
        )


class ChunkedContrast(torch.autograd.Function):
    """The loss of unit rows and its gradient, chunk by chunk; no similarity is kept or computed twice.

    With respect to the logit of anchor i and patch a, the derivative of eq. 2 is
    softmax(i, a) - [a in P_i] / |P_i|.
    """

    @staticmethod
    def forward(ctx: Any, unit_ND: Tensor, label_N: Tensor, anchor_M: Tensor, of: int) -> Tensor:
        total = unit_ND.new_zeros(())
        gradient_ND = torch.zeros_like(unit_ND)
        for anchor_C in anchor_M.split(max(1, SIMILARITIES_PER_CHUNK // len(unit_ND))):
            anchor_CD = unit_ND[anchor_C]
            loss_C, slope_CN = _contrast_of_anchors(anchor_CD @ unit_ND.T, label_N, anchor_C)
            total += loss_C.sum()
            gradient_ND.addmm_(slope_CN.T, anchor_CD)
            gradient_ND[anchor_C] += slope_CN @ unit_ND
        ctx.save_for_backward(gradient_ND / of)
        return total / of

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient_ND,) = ctx.saved_tensors
        return upstream * gradient_ND, None, None, None


def _contrast_of_anchors(cosine_CN: Tensor, label_N: Tensor, anchor_C: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 2 of each anchor, and its derivative with respect to the cosines; `cosine_CN` is overwritten."""
    own_C1 = anchor_C[:, None]
    logits_CN = cosine_CN.div_(TEMPERATURE).scatter_(1, own_C1, -torch.inf)
    positive_CN = (label_N[own_C1] == label_N).scatter_(1, own_C1, False)
    positives_C1 = positive_CN.sum(dim=1, keepdim=True)
    share_C1 = positives_C1.clamp(min=1).to(cosine_CN.dtype).reciprocal()
    log_sum_C1 = logits_CN.logsumexp(dim=1, keepdim=True)
    mean_C1 = logits_CN.where(positive_CN, 0.0).sum(dim=1, keepdim=True) * share_C1
    counted_C1 = (positives_C1 > 0).to(cosine_CN.dtype)
    loss_C1 = (log_sum_C1 - mean_C1) * counted_C1
    slope_CN = logits_CN.sub_(log_sum_C1).exp_().sub_(positive_CN * share_C1)
    return loss_C1, slope_CN.mul_(counted_C1 / TEMPERATURE)
