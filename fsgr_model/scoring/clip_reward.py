"""CLIPScore and RefCLIPScore of sampled captions, from the CLIP in use and its cached features.

Shapes: N captions, L positions, A images, E joint width.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsgr_model.clip.loading import Clip
from fsgr_model.clip.text_embeddings import embed_texts
from fsgr_model.scoring.clip_score import PROMPT, clip_scores, ref_clip_scores
from fsgr_model.scoring.document_frequencies import Floats
from fsgr_model.text.caption_table import WordTable
from fsgr_model.text.segmenters import join
from fsgr_model.text.vocabulary import Vocabulary


class ClipReward:
    """CLIPScore of captions: 2.5 max(cos, 0) of caption and image.

    The images were embedded before, by `embed_images`; `image_AE`: unit rows in the order of `image_ids`.
    """

    def __init__(
        self, clip: Clip, vocabulary: Vocabulary, image_ids: Sequence[int], *, image_AE: Tensor
    ) -> None:
        self.clip, self.vocabulary, self.image_AE = clip, vocabulary, image_AE
        self.row_of = {image_id: row for row, image_id in enumerate(image_ids)}
        # Both scores of one batch read the same captions.
        self.embed_samples = lru_cache(maxsize=1)(self.embed)

    def score(self, caption_NL: NDArray[np.integer], image_ids: Sequence[int]) -> Floats:
        """CLIPScore of each caption, float64 [N]; a row of word ids ends at its first `<eos>`."""
        return self.cosine_scores(caption_NL, image_ids).double().numpy()

    def cosine_scores(self, caption_NL: NDArray[np.integer], image_ids: Sequence[int]) -> Tensor:
        """The same as a tensor, float32 [N]."""
        caption_NE = self.embed_samples(self.texts(caption_NL))
        return clip_scores(caption_NE, self.image_AE[[self.row_of[image_id] for image_id in image_ids]])

    def texts(self, caption_NL: NDArray[np.integer]) -> tuple[str, ...]:
        """The captions as text."""
        return tuple(self.vocabulary.decode(row) for row in caption_NL.tolist())

    def embed(self, texts: tuple[str, ...]) -> Tensor:
        """Unit rows [N, E], float32 on the CPU; equal captions are embedded once.

        In full precision also within a training step that has less.
        """
        distinct = list(dict.fromkeys(texts))
        row_of = {text: row for row, text in enumerate(distinct)}
        device = next(self.clip.model.parameters()).device
        with torch.autocast(device.type, enabled=False):
            return embed_texts(self.clip, distinct, [PROMPT])[[row_of[text] for text in texts]]


class RefClipReward:
    """RefCLIPScore: the harmonic mean of CLIPScore and the best cosine to a reference.

    The references of a batch are embedded with it: those of COCO together would take gigabytes.
    """

    def __init__(self, clip_reward: ClipReward, references: WordTable) -> None:
        self.clip_reward, self.references = clip_reward, references

    def score(self, caption_NL: NDArray[np.integer], image_ids: Sequence[int]) -> Floats:
        """RefCLIPScore of each caption, float64 [N]; a row of word ids ends at its first `<eos>`."""
        clip = self.clip_reward
        clip_N = clip.cosine_scores(caption_NL, image_ids)
        caption_NE = clip.embed_samples(clip.texts(caption_NL))
        asked = list(dict.fromkeys(image_ids))
        texts = [
            [join(words, clip.vocabulary.segmenter) for words in self.references[image_id]]
            for image_id in asked
        ]
        each = clip.embed(tuple(text for of_image in texts for text in of_image))
        of_image = dict(zip(asked, each.split([len(of_image) for of_image in texts]), strict=True))
        best = [
            (of_image[image_id] @ caption_E).max()
            for image_id, caption_E in zip(image_ids, caption_NE, strict=True)
        ]
        return ref_clip_scores(clip_N, torch.stack(best).clamp(min=0)).double().numpy()
