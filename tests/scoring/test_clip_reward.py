"""CLIPScore as a reward beside the scorer of the stage `evaluate`."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fsgr_model.clip.loading import load_clip
from fsgr_model.runtime.row_store import RowStore
from fsgr_model.scoring.clip_reward import ClipReward, RefClipReward
from fsgr_model.scoring.clip_score import embed_images, make_clip_scorer
from fsgr_model.text.vocabulary import EOS, PAD, Vocabulary
from tests.worlds.captioner import CPU, split_of


@pytest.fixture(scope="module")
def rewards(tiny_data: Path) -> tuple[ClipReward, RefClipReward]:
    clip = load_clip(tiny_data / "clip", CPU)
    vocabulary = Vocabulary.load(tiny_data / "vocab" / "words.json")
    split = split_of(tiny_data, "train")
    image_ids = list(split.tokens)
    image_AE = embed_images(clip, split.features, image_ids)
    reward = ClipReward(clip, vocabulary, image_ids, image_AE=image_AE)
    return reward, RefClipReward(reward, split.tokens)


@pytest.fixture(scope="module")
def samples(tiny_data: Path, rewards) -> tuple[list[int], np.ndarray]:
    """Two captions of each image in another order, some of them alike."""
    reward, _ = rewards
    rng = np.random.default_rng(0)
    image_ids = [image_id for image_id in rng.permutation(list(reward.row_of)) for _ in range(2)]
    caption_NL = rng.integers(4, len(reward.vocabulary), (len(image_ids), 5))
    caption_NL[::3] = caption_NL[0]
    caption_NL[1::2, 3:] = [EOS, PAD]
    return [int(image_id) for image_id in image_ids], caption_NL


def test_they_are_the_scores_of_the_stage_evaluate(tiny_data: Path, rewards, samples) -> None:
    reward, ref_reward = rewards
    image_ids, caption_NL = samples
    references = {
        image_id: [" ".join(words) for words in of_image]
        for image_id, of_image in ref_reward.references.items()
    }
    scorer = make_clip_scorer(reward.clip, RowStore(tiny_data / "features" / "train.h5", {}), references)
    texts = reward.texts(caption_NL)
    for first in (0, 1):
        found = scorer.score(dict(zip(image_ids[first::2], texts[first::2], strict=True)))
        order = np.argsort(image_ids[first::2])
        for name, of_samples in (("CLIPScore", reward), ("RefCLIPScore", ref_reward)):
            scores = of_samples.score(caption_NL, image_ids)[first::2][order]
            np.testing.assert_allclose(scores, found[name], atol=1e-5)
            assert scores.std() > 0.01


def test_they_are_computed_in_full_precision_within_a_step_in_bf16(rewards, samples) -> None:
    reward, _ = rewards
    texts = reward.texts(samples[1])
    plain = reward.embed(texts)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(reward.embed(texts), plain)
