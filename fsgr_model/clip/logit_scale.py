"""What a cosine of an image and a text is multiplied by, to become a logit."""

import math
from typing import Any

# CLIP's learned logit scale ends at its clamp (arXiv 2103.00020, section 2.5).
CLIP_SCALE = 100.0
MOST_LOG_SCALE = math.log(CLIP_SCALE)


def logit_scale_of(clip_model: Any) -> float:
    """The model's own scale where it was trained with a sigmoid; else 100, which a softmax has in CLIP.

    A model of the first sort has a bias of its logits (SigLIP, arXiv 2303.15343). Among the concepts of a
    patch the bias is the same for all, so that a softmax leaves it out.
    """
    sigmoid = getattr(clip_model, "logit_bias", None) is not None
    # A model without weights, of which only shapes are asked, has no scale.
    if not sigmoid or clip_model.logit_scale.is_meta:
        return CLIP_SCALE
    return float(clip_model.logit_scale.detach().exp())
