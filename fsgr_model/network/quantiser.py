"""Semantic quantisation: every patch is given the concept that describes it (FSGR, IEEE TCSVT 2025).

Shapes: B images, G patches, E joint width of CLIP, K concepts of the codebook, P = top_k preselected ones.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsgr_model.clip.logit_scale import CLIP_SCALE
from fsgr_model.runtime.device import at_least_float32


@dataclass(frozen=True)
class Quantised:
    """`text_BGE`: the concept embedding of each patch; `concept_BG`: its row of the codebook, int64."""

    text_BGE: Tensor
    concept_BG: Tensor


class SemanticQuantiser(nn.Module):
    """Global preselection of `top_k` concepts, then a hard assignment of every patch to one of them.

    Training draws the assignment by straight-through Gumbel softmax (arXiv 1611.01144, temperature 1);
    evaluation takes the best. With `inverse_frequency` a concept's embedding is divided by its patch
    count + 1, as the reference copy does (after GroupViT, arXiv 2202.11094, eq. 5).
    """

    codebook_KE: Tensor
    # Exponential numbers [B, n] for n; None: those of PyTorch's own generator.
    assignment_noise: Callable[[int], Tensor] | None = None

    def __init__(
        self, codebook_KE: Tensor, top_k: int, inverse_frequency: bool, *, logit_scale: float = CLIP_SCALE
    ) -> None:
        """`logit_scale`: of the CLIP that the embeddings come from (`logit_scale_of`)."""
        super().__init__()
        self.register_buffer("codebook_KE", codebook_KE)
        self.top_k = min(top_k, len(codebook_KE))
        self.inverse_frequency = inverse_frequency
        self.logit_scale = logit_scale

    def forward(self, global_BE: Tensor, align_BGE: Tensor) -> Quantised:
        """Quantise; both inputs have unit rows. The returned index never contains the Gumbel noise.

        It is in float32 under autocast too: bf16 rounds logits near 30 to 1/8, which makes concepts tie.
        """
        with torch.autocast(global_BE.device.type, enabled=False):
            return self._quantise(at_least_float32(global_BE), at_least_float32(align_BGE))

    def _quantise(self, global_BE: Tensor, align_BGE: Tensor) -> Quantised:
        kept_BP = (global_BE @ self.codebook_KE.T).topk(self.top_k, dim=-1).indices
        kept_BPE = self.codebook_KE[kept_BP]
        logits_BPG = self.logit_scale * kept_BPE @ align_BGE.transpose(1, 2)
        best_BG = logits_BPG.argmax(dim=1)
        assigned_BPG = self._assign(logits_BPG, best_BG)
        if self.inverse_frequency:
            assigned_BPG = assigned_BPG / (assigned_BPG.detach().sum(dim=-1, keepdim=True) + 1.0)
        return Quantised(assigned_BPG.transpose(1, 2) @ kept_BPE, kept_BP.gather(1, best_BG))

    def _assign(self, logits_BPG: Tensor, best_BG: Tensor) -> Tensor:
        """One-hot over the P axis, with the gradient of the softmax."""
        if self.training and self.assignment_noise is None:
            return F.gumbel_softmax(logits_BPG, tau=1.0, hard=True, dim=1)
        if self.training and self.assignment_noise is not None:
            noise_BN = self.assignment_noise(logits_BPG[:1].numel())
            logits_BPG = logits_BPG - noise_BN.view(logits_BPG.shape).log()
            best_BG = logits_BPG.argmax(dim=1)
        soft_BPG = logits_BPG.softmax(dim=1)
        hard_BPG = torch.zeros_like(soft_BPG).scatter_(1, best_BG[:, None], 1.0)
        return hard_BPG + soft_BPG - soft_BPG.detach()
