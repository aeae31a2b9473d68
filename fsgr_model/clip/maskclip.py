"""Label maps without training: a patch gets the concept whose text embedding is most similar to it.

Source: MaskCLIP, arXiv 2112.01071.

Shapes: B images, T tokens, G patches, W vision width, E joint width, K concepts.
"""

from typing import Any

import torch
from torch.nn import functional as F

from fsgr_model.clip.logit_scale import CLIP_SCALE
from fsgr_model.clip.towers import AnyTail
from fsgr_model.config.params import LabelsParams, RefineParams

NEVER = -100.0


@torch.inference_mode()
def label_patches(
    tail: AnyTail, tokens_BTW: torch.Tensor, codebook_KE: torch.Tensor, params: LabelsParams
) -> torch.Tensor:
    """Concept of every patch: int64 [B, G]. `tail.align` must be `params.attention`."""
    assert tail.align == params.attention
    score_BGK = F.normalize(tail.aligned(tokens_BTW), dim=-1) @ codebook_KE.T
    if params.refine and params.refine.prompt_denoising:
        score_BGK = denoise_prompts(score_BGK, params.refine.prompt_denoising, logit_scale=tail.logit_scale)
    if params.refine and params.refine.key_smoothing:
        score_BGK = smooth_by_keys(score_BGK, tail.last_keys(tokens_BTW), logit_scale=tail.logit_scale)
    return score_BGK.argmax(dim=-1)


def denoise_prompts(
    score_BGK: torch.Tensor, threshold: float, *, logit_scale: float = CLIP_SCALE
) -> torch.Tensor:
    """Drop the concepts of an image whose best patch confidence is below `threshold` (section 3.4).

    Each image keeps at least its most confident concept, so that every patch has a label.
    """
    best_BK = (logit_scale * score_BGK).softmax(dim=-1).amax(dim=1)
    dropped_BK = (best_BK < threshold) & (best_BK < best_BK.amax(dim=1, keepdim=True))
    return score_BGK.masked_fill(dropped_BK[:, None], NEVER)


def smooth_by_keys(
    score_BGK: torch.Tensor, key_BGW: torch.Tensor, *, logit_scale: float = CLIP_SCALE
) -> torch.Tensor:
    """Confidences summed over all patches, weighted by the cosine of their keys (section 3.4)."""
    key_BGW = F.normalize(key_BGW, dim=-1)
    return (key_BGW @ key_BGW.transpose(1, 2)) @ (logit_scale * score_BGK).softmax(dim=-1)


def label_identity(
    features: dict[str, Any], codebook: dict[str, Any], params: LabelsParams
) -> dict[str, Any]:
    """What label maps depend on: the same as the features, and also the codebook and the settings."""
    refine = params.refine or RefineParams(prompt_denoising=0.0, key_smoothing=False)
    return {
        **features,
        "codebook": codebook,
        "labels": {"attention": params.attention, **refine.model_dump()},
    }
