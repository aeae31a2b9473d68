"""Patch contrast: patches with the same label are drawn together, all others apart (FSGR, IEEE TCSVT 2025).

The loss is that of supervised contrastive learning (Khosla et al., arXiv 2004.11362, eq. 2). Labels are the
MaskCLIP label maps; a label map has no background, so every patch has a label. The features are the embedded
patches, before the text grids come in.

Shapes: B images, G patches, D width, N = B * G patches of a batch, M anchors.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fsgr_model.network.captioner import Encoded
from fsgr_model.training.auxiliary import Term
from fsgr_model.training.batches import Batch
from fsgr_model.training.moment import Moment

# FSGR's reference copy; arXiv 2004.11362, section 4, uses 0.1.
TEMPERATURE = 0.07
# Similarities held at once, 16 MiB of float32 in each of a few tensors of this size.
SIMILARITIES_A_CHUNK = 2**22


class PatchContrast:
    """The loss over at most `max_anchors` patches of a batch, drawn anew in each step.

    An anchor is compared with all patches of the batch, so a drawn subset gives the mean over all anchors
    without bias (drawing is a choice of ours: it bounds the time, as the chunks bound the memory).
    """

    def __init__(self, weight: float, max_anchors: int) -> None:
        self.heads = nn.Module()
        self.weight = weight
        self.max_anchors = max_anchors

    def terms(self, encoded: Encoded, batch: Batch, moment: Moment) -> list[Term]:
        """The one term `contrast`; `batch.label_BG` must be there."""
        assert batch.label_BG is not None
        label_N = batch.label_BG.flatten()
        anchor_M = self._anchors(len(label_N), moment).to(label_N.device)
        loss = supervised_contrast(encoded.visual_BGD.flatten(0, 1), label_N, anchor_M)
        return [Term("contrast", self.weight, loss)]

    def _anchors(self, patches: int, moment: Moment) -> Tensor:
        if patches <= self.max_anchors:
            return torch.arange(patches)
        return torch.from_numpy(moment.draw("anchors").permutation(patches)[: self.max_anchors])


def supervised_contrast(feature_ND: Tensor, label_N: Tensor, anchor_M: Tensor) -> Tensor:
    """Mean over the anchors of -1/|P| sum over P of log softmax(z . z / 0.07), float32 also under autocast.

    P are the anchor's positives: the other patches with its label, from any image of the batch. An anchor
    without one adds 0 to the sum and still counts in the mean.

    Args:
        feature_ND: one row a patch; normalised here.
        label_N: int64.
        anchor_M: int64 rows of the patches that are anchors.

    Returns:
        a scalar. Memory grows with N, not with N * M: similarities are made chunk by chunk, and again in the
        backward pass.
    """
    assert len(feature_ND) > 1, "a patch needs another one to be compared with"
    with torch.autocast(feature_ND.device.type, enabled=False):
        unit_ND = F.normalize(feature_ND.float(), dim=-1)
        rows = max(1, SIMILARITIES_A_CHUNK // len(unit_ND))
        losses = [
            checkpoint(_anchor_losses, unit_ND, label_N, chunk, use_reentrant=False, preserve_rng_state=False)
            for chunk in anchor_M.split(rows)
        ]
        return torch.cat(losses).mean()


def _anchor_losses(unit_ND: Tensor, label_N: Tensor, anchor_M: Tensor) -> Tensor:
    """Eq. 2 of every anchor, [M]."""
    own_MN = anchor_M[:, None] == torch.arange(len(unit_ND), device=anchor_M.device)
    logits_MN = (unit_ND[anchor_M] @ unit_ND.T / TEMPERATURE).masked_fill(own_MN, -torch.inf)
    positive_MN = (label_N[anchor_M, None] == label_N) & ~own_MN
    positives_M = positive_MN.sum(dim=1)
    mean_logit_M = logits_MN.where(positive_MN, 0.0).sum(dim=1) / positives_M.clamp(min=1)
    return (logits_MN.logsumexp(dim=1) - mean_logit_M).where(positives_M > 0, 0.0)
