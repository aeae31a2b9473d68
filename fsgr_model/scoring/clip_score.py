"""CLIPScore and RefCLIPScore (Hessel et al., arXiv 2104.08718) from the CLIP in use and its cached features.

Scores of different CLIPs cannot be compared; published ones use OpenAI's ViT-B/32. A captioner that uses the
same CLIP may score too high.

Shapes: N images, E joint width.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fsgr_model.clip.loading import Clip
from fsgr_model.clip.text_embeddings import embed_texts
from fsgr_model.clip.token_cache import read_tokens
from fsgr_model.clip.towers import make_tail
from fsgr_model.runtime.row_store import RowStore, groups_of

PROMPT = "A photo depicts {}"
WEIGHT = 2.5
IMAGES_PER_STEP = 256


class ClipScorer:
    """Scores captions of the images whose unit embeddings are given by id, against their references.

    Where no image has references, there is no RefCLIPScore.
    """

    def __init__(
        self, clip: Clip, image_E: Mapping[int, Tensor], references: Mapping[int, Sequence[str]]
    ) -> None:
        self.clip = clip
        self.image_ids = sorted(references)
        self.image_NE = torch.stack([image_E[image_id] for image_id in self.image_ids])
        texts = [text for image_id in self.image_ids for text in references[image_id]]
        counts = [len(references[image_id]) for image_id in self.image_ids]
        self.references = embed_texts(clip, texts, [PROMPT]).split(counts) if texts else None

    def score(self, results: Mapping[int, str]) -> dict[str, NDArray[np.float64]]:
        """CLIPScore and RefCLIPScore of each image's caption, [N] by ascending image id.

        CLIPScore is 2.5 max(cos, 0) (equation 1); RefCLIPScore its harmonic mean with the best cosine to a
        reference, at least 0 (section 3).
        """
        caption_NE = embed_texts(self.clip, [results[image_id] for image_id in self.image_ids], [PROMPT])
        clip_N = clip_scores(caption_NE, self.image_NE)
        scores = {"CLIPScore": clip_N.double().numpy()}
        if self.references is None:
            return scores
        pairs = zip(self.references, caption_NE, strict=True)
        best_N = torch.stack([(of_image @ caption_E).max() for of_image, caption_E in pairs]).clamp(min=0)
        return scores | {"RefCLIPScore": ref_clip_scores(clip_N, best_N).double().numpy()}


def clip_scores(caption_NE: Tensor, image_NE: Tensor) -> Tensor:
    """CLIPScore [N] of captions and their images, unit embeddings (equation 1)."""
    return WEIGHT * (caption_NE * image_NE).sum(dim=1).clamp(min=0)


def ref_clip_scores(clip_N: Tensor, best_N: Tensor) -> Tensor:
    """RefCLIPScore [N] from CLIPScore and the best cosine to a reference, at least 0 (section 3)."""
    return 2 * clip_N * best_N / (clip_N + best_N).clamp(min=1e-12)


def make_clip_scorer(clip: Clip, store: RowStore, references: Mapping[int, Sequence[str]]) -> ClipScorer:
    """From the cached features of the images that have references."""
    image_ids = sorted(references)
    image_E = dict(zip(image_ids, embed_images(clip, store, image_ids), strict=True))
    return ClipScorer(clip, image_E, references)


@torch.inference_mode()
def embed_images(clip: Clip, store: RowStore, image_ids: Sequence[int]) -> Tensor:
    """CLIP's image embeddings from cached features: unit rows [N, E], float32 on the CPU."""
    tail = make_tail(clip.model, store.identity["cut"], "plain")
    parts = []
    for group in groups_of(image_ids, IMAGES_PER_STEP):
        tokens_BTW = read_tokens(store, group, tail.device)
        parts.append(F.normalize(tail(tokens_BTW).global_BE, dim=-1).float().cpu())
    return torch.cat(parts)
