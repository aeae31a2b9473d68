"""What self-critical training rewards: scores of sampled captions, added with weights.

Shapes: B images, S samples per image, L positions, N = B x S samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsgr_model.clip.loading import Clip
from fsgr_model.config.training_params import RewardParams, ScstParams
from fsgr_model.datasets.normal_form import read_instances
from fsgr_model.scoring.caption_faults import BadEndings, Repetition
from fsgr_model.scoring.cider_d import CiderD, CiderDByBatch
from fsgr_model.scoring.clip_reward import ClipReward, RefClipReward
from fsgr_model.scoring.clip_score import embed_images
from fsgr_model.scoring.device_cider_d import DeviceCiderD
from fsgr_model.scoring.document_frequencies import DocumentFrequencies, Floats
from fsgr_model.scoring.sentence_bleu import SentenceBleu
from fsgr_model.scoring.sentence_chair import SentenceChair
from fsgr_model.text.vocabulary import Vocabulary
from fsgr_model.training.inputs import SplitInputs

CIDER_D_ALONE = RewardParams()


class Reward(Protocol):
    """A score of single captions."""

    def score(self, caption_NL: NDArray[np.integer], image_ids: Sequence[int]) -> Floats:
        """Float64 [N], given word ids, a caption per row, which ends at `<eos>` or `<pad>`, and the image
        of each row.
        """


@dataclass(frozen=True)
class Weighted:
    """A reward and its weight in the sum, below 0 for a penalty."""

    weight: float
    reward: Reward


class RewardSum:
    """Several rewards by name. On a GPU, CIDEr-D is computed there and all others on the CPU."""

    def __init__(self, parts: Mapping[str, Weighted]) -> None:
        self.parts = dict(parts)
        self.on_device: DeviceCiderD | None = None

    def scores(self, image_ids: Sequence[int], caption_BSL: Tensor) -> dict[str, Tensor]:
        """Each reward without its weight, [B, S] float32 on the samples' device."""
        if not image_ids:
            # A process may have no share of the last batch.
            return dict.fromkeys(
                self.parts, caption_BSL.new_zeros(caption_BSL.shape[:2], dtype=torch.float32)
            )
        S = caption_BSL.shape[1]
        caption_NL = caption_BSL.flatten(0, 1)
        image_of_row = [image_id for image_id in image_ids for _ in range(S)]
        found = {}
        for name, part in self.parts.items():
            if caption_NL.is_cuda and isinstance(part.reward, CiderD | CiderDByBatch):
                score_N = self._scorer_on(caption_NL.device, part.reward).score(caption_NL, image_of_row)
            else:
                scores = part.reward.score(caption_NL.cpu().numpy(), image_of_row)
                score_N = torch.from_numpy(scores).to(caption_NL.device, torch.float32)
            found[name] = score_N.view(-1, S).float()
        return found

    def total(self, scores: Mapping[str, Tensor]) -> Tensor:
        """The sum with weights, [B, S] float32."""
        weighted = [part.weight * scores[name] for name, part in self.parts.items()]
        return weighted[0] if len(weighted) == 1 else torch.stack(weighted).sum(dim=0)

    def _scorer_on(self, device: torch.device, reward: CiderD | CiderDByBatch) -> DeviceCiderD:
        if self.on_device is None:
            scorer = reward if isinstance(reward, CiderD) else reward.prepared()
            self.on_device = DeviceCiderD(scorer, device)
        return self.on_device


def as_sum(reward: Reward | RewardSum) -> RewardSum:
    """A reward alone, with the weight 1, is a sum as well."""
    return reward if isinstance(reward, RewardSum) else RewardSum({"cider_d": Weighted(1.0, reward)})


@dataclass(frozen=True)
class RewardSources:
    """What rewards are made from. `dataset`: its folder, whose instances are read if CHAIR asks for them."""

    split: SplitInputs
    vocabulary: Vocabulary
    frequencies: DocumentFrequencies
    clip: Clip
    dataset: Path


def make_rewards(scst: ScstParams, sources: RewardSources) -> RewardSum:
    """The rewards that have a weight, on the training split; penalties have their weight below 0.

    Raises:
        UserError: CHAIR has a weight, and the training images have no instances.
    """
    weights, end_token = scst.reward or CIDER_D_ALONE, scst.end_token
    tokens, vocabulary = sources.split.tokens, sources.vocabulary
    references = vocabulary.encode_table(tokens)
    parts: dict[str, Weighted] = {}
    if weights.cider_d:
        cider_d = CiderDByBatch(references, sources.frequencies, end_token)
        parts["cider_d"] = Weighted(weights.cider_d, cider_d)
    if weights.bleu4:
        parts["bleu4"] = Weighted(weights.bleu4, SentenceBleu(references, len(vocabulary), end_token))
    parts |= clip_rewards(weights, sources)
    if weights.chair:
        chair = SentenceChair(read_instances(sources.dataset), tokens, vocabulary)
        parts["chair"] = Weighted(-weights.chair, chair)
    if weights.repetition:
        parts["repetition"] = Weighted(-weights.repetition, Repetition(len(vocabulary)))
    if weights.bad_endings:
        parts["bad_endings"] = Weighted(-weights.bad_endings, BadEndings(vocabulary))
    return RewardSum(parts)


def clip_rewards(weights: RewardParams, sources: RewardSources) -> dict[str, Weighted]:
    """CLIPScore and RefCLIPScore, if they have a weight; they share the embeddings of captions and images."""
    if not (weights.clip_score or weights.ref_clip_score):
        return {}
    split, image_ids = sources.split, list(sources.split.tokens)
    image_AE = embed_images(sources.clip, split.features, image_ids)
    clip_score = ClipReward(sources.clip, sources.vocabulary, image_ids, image_AE=image_AE)
    ref_clip_score = RefClipReward(clip_score, split.tokens)
    parts = {
        "clip_score": Weighted(weights.clip_score, clip_score),
        "ref_clip_score": Weighted(weights.ref_clip_score, ref_clip_score),
    }
    return {name: part for name, part in parts.items() if part.weight}
