"""Minimum-Bayes-risk choice: the sample that is most like all samples of its image.

Samples stand for what the model means; the best caption is then the one whose expected CIDEr-D against
another sample is highest (Kumar and Byrne, HLT-NAACL 2004; Eikema and Aziz, COLING 2020: the same samples are
candidates and references).

Shapes: B images, S samples per image, L positions.
"""

import numpy as np
import torch
from torch import Tensor

from fsgr_model.scoring.cider_d import CiderD
from fsgr_model.scoring.document_frequencies import DocumentFrequencies


def by_consensus(caption_BSL: Tensor) -> Tensor:
    """The samples of each image, [B, S, L], the one with the highest CIDEr-D against all of them first.

    Equally good ones stay in the order in which they were drawn. All n-grams have the same weight: a model
    that was exported has no training captions to count images in.
    """
    B, S, L = caption_BSL.shape
    samples = {image: rows for image, rows in enumerate(caption_BSL.tolist())}
    scorer = CiderD(samples, _equal_weights(int(caption_BSL.max()) + 1), end_token=False)
    score_N = scorer.score(caption_BSL.flatten(0, 1).cpu().numpy(), np.repeat(np.arange(B), S).tolist())
    # Scores of equal captions may differ in their last bits.
    score_BS = torch.from_numpy(score_N.round(9)).view(B, S)
    order_BS = score_BS.argsort(dim=1, descending=True, stable=True).to(caption_BSL.device)
    return caption_BSL.gather(1, order_BS[..., None].expand(-1, -1, L))


def _equal_weights(num_words: int) -> DocumentFrequencies:
    """Any n-gram in one of two images."""
    none = np.zeros(0, dtype=np.int64)
    return DocumentFrequencies(none, none, 2, num_words)
