"""The sum of rewards in self-critical training: its weights, its baselines, what a run reports."""

import json
import signal
from pathlib import Path

import pytest
import torch

from fsgr_model.config.training_params import Baseline, RewardParams
from fsgr_model.inference.decoding import greedy
from fsgr_model.runtime.artifacts import write_checksum
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.stopping import Stopped
from fsgr_model.scoring.document_frequencies import DocumentFrequencies
from fsgr_model.text.vocabulary import EOS, PAD, Vocabulary
from fsgr_model.training.rewards import RewardSources, RewardSum, make_rewards
from fsgr_model.training.scst import SelfCritical, leave_one_out_advantage
from fsgr_model.training.task import Step
from pipeline.train_scst import train_scst
from tests.training.test_training import history_of, same, stop_after, weights_of
from tests.worlds.captioner import CPU, THINGS, assemble, images_of, parts_of, reward_of, split_of

ALL = RewardParams(
    cider_d=0.5, bleu4=2, clip_score=0.25, ref_clip_score=1, chair=3, repetition=4, bad_endings=5
)
FIRST = Step(0, 1, 0)


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> Path:
    """Instances of the tiny world's training images: each has one thing, as its captions say."""
    folder = tmp_path_factory.mktemp("objects")
    categories = [{"id": place, "name": name} for place, name in enumerate(THINGS, start=1)]
    content = {"categories": categories, "annotations": [{"image_id": 1, "category_id": 1}]}
    (folder / "instances.json").write_text(json.dumps(content))
    write_checksum(folder / "instances.json")
    return folder


@pytest.fixture(scope="module")
def sources(tiny_data: Path, objects: Path) -> RewardSources:
    vocabulary = Vocabulary.load(tiny_data / "vocab" / "words.json")
    frequencies = DocumentFrequencies.load(
        tiny_data / "vocab" / "document_frequencies.safetensors", vocabulary
    )
    return RewardSources(
        split_of(tiny_data, "train"), vocabulary, frequencies, parts_of(tiny_data).clip, objects
    )


def sum_of(sources: RewardSources, scst_params, reward: RewardParams | None) -> RewardSum:
    return make_rewards(scst_params.model_copy(update={"reward": reward}), sources)


def samples_of(sources: RewardSources) -> tuple[list[int], torch.Tensor]:
    image_ids = list(sources.split.tokens)[:6]
    torch.manual_seed(1)
    caption_BSL = torch.randint(4, len(sources.vocabulary), (6, 4, 7))
    caption_BSL[0, 0], caption_BSL[1, :, 5:] = 5, torch.tensor([EOS, PAD])
    return image_ids, caption_BSL


def test_cider_d_alone_is_the_reward_as_it_was(sources, tiny_data, scst_params):
    image_ids, caption_BSL = samples_of(sources)
    found = sum_of(sources, scst_params, None)
    assert list(found.parts) == ["cider_d"]
    before = SelfCritical(reward_of(tiny_data, sources.vocabulary), num_samples=4, max_length=7)
    now = SelfCritical(found, num_samples=4, max_length=7)
    assert torch.equal(now.rewards(image_ids, caption_BSL), before.rewards(image_ids, caption_BSL))
    assert before.rewards(image_ids, caption_BSL).max() > 0


def test_rewards_are_added_and_penalties_subtracted_with_their_weights(sources, scst_params):
    image_ids, caption_BSL = samples_of(sources)
    rewards = sum_of(sources, scst_params, ALL)
    scores = rewards.scores(image_ids, caption_BSL)
    assert list(scores) == list(ALL.model_dump())
    assert all(score_BS.shape == (6, 4) and score_BS.max() > 0 for score_BS in scores.values())
    signs = {"chair": -1, "repetition": -1, "bad_endings": -1}
    expected = sum(signs.get(name, 1) * weight * scores[name] for name, weight in ALL.model_dump().items())
    torch.testing.assert_close(rewards.total(scores), expected)


@pytest.mark.parametrize(
    "name", ["bleu4", "clip_score", "ref_clip_score", "chair", "repetition", "bad_endings"]
)
def test_a_weight_switches_on_its_reward_only(sources, scst_params, name):
    rewards = sum_of(sources, scst_params, RewardParams(**{name: 0.5}))
    assert list(rewards.parts) == ["cider_d", name]


def test_captions_of_an_image_do_not_depend_on_the_batch(sources, scst_params):
    image_ids, caption_BSL = samples_of(sources)
    rewards = sum_of(sources, scst_params, ALL)
    whole = rewards.scores(image_ids, caption_BSL)
    part = rewards.scores(image_ids[4:], caption_BSL[4:])
    for name in whole:
        torch.testing.assert_close(whole[name][4:], part[name], atol=1e-6, rtol=1e-6)


def test_a_process_without_images_has_no_samples_to_score(sources, scst_params):
    scores = sum_of(sources, scst_params, ALL).scores([], torch.zeros(0, 4, 7, dtype=torch.int64))
    assert {score_BS.shape for score_BS in scores.values()} == {(0, 4)}


def test_chair_without_instances_is_refused(sources, tiny_data, scst_params):
    without = RewardSources(
        sources.split, sources.vocabulary, sources.frequencies, sources.clip, tiny_data / "dataset"
    )
    with pytest.raises(UserError, match="leave chair out"):
        sum_of(without, scst_params, RewardParams(chair=1))


class Unasked:
    """A reward that nobody asks."""


def test_baselines_by_hand():
    reward = torch.tensor([[1.0, 2.0, 6.0]])
    task = SelfCritical(Unasked(), num_samples=3, max_length=5, baseline="mean")
    torch.testing.assert_close(task.advantage([7], reward), torch.tensor([[-2.0, -1.0, 3.0]]))
    task = SelfCritical(Unasked(), num_samples=3, max_length=5)
    torch.testing.assert_close(task.advantage([7], reward), leave_one_out_advantage(reward))


@pytest.mark.parametrize("baseline", ["others", "mean", "greedy"])
def test_the_gradient_is_that_of_each_sample_times_its_advantage(
    tiny_data, model_params, sources, scst_params, baseline: Baseline
):
    assembly = assemble(tiny_data, "train", model_params, 0)
    images = images_of(tiny_data, "train", assembly)
    model = assembly.captioner.eval()
    batch = images.batch(images.image_ids[:4]).to(CPU)
    rewards = sum_of(sources, scst_params, RewardParams(bleu4=1))
    task = SelfCritical(rewards, num_samples=3, max_length=8, baseline=baseline)
    torch.manual_seed(0)
    loss, report = task.loss(model, batch, FIRST)
    start = model.encode(batch.tokens_BTW).start
    torch.manual_seed(0)
    caption_BSL = task.draw(model, start)
    reward_BS = task.rewards(batch.image_ids, caption_BSL)
    if baseline == "greedy":
        greedy_B1L = greedy(model.step, start, 4, max_length=8)
        expected_BS = reward_BS - task.rewards(batch.image_ids, greedy_B1L)
    else:
        mean_B1 = reward_BS.mean(dim=1, keepdim=True)
        expected_BS = (reward_BS - mean_B1) * (3 / 2 if baseline == "others" else 1)
    counted_BSL = caption_BSL != PAD
    log_prob_N = task.log_probs(model, start, caption_BSL)
    advantage_N = expected_BS[..., None].expand(counted_BSL.shape)[counted_BSL]
    torch.testing.assert_close(loss, -(advantage_N * log_prob_N).mean())
    assert report.keys() == {"reward", "length", "cider_d", "bleu4"}
    assert report["reward"] == pytest.approx(report["cider_d"] + report["bleu4"])
    assert report["length"] == pytest.approx(counted_BSL.sum(-1).double().mean().item())


def test_a_run_with_other_rewards_reports_each_and_resumes_exactly(
    run_in, runs, model_params, xe_params, scst_params, monkeypatch
):
    """CLIP's embeddings too are the same after an interruption."""
    reward = ALL.model_copy(update={"chair": 0})
    params = scst_params.model_copy(update={"reward": reward, "baseline": "greedy"})
    start = runs(1e-3, model_params, xe_params).out
    whole, stopped = run_in("whole", "train_scst"), run_in("stopped", "train_scst")
    train_scst(whole, start, model_params, params)
    with monkeypatch.context() as patch:
        stop_after(patch, 5, signal.SIGTERM)
        with pytest.raises(Stopped):
            train_scst(stopped, start, model_params, params)
    train_scst(stopped, start, model_params, params)
    assert same(weights_of(stopped), weights_of(whole))
    assert stopped.curve.read_text() == whole.curve.read_text()
    last = {name: float(value) for name, value in history_of(whole)[-1].items()}
    signs = {"repetition": -1, "bad_endings": -1}
    weights = {name: weight for name, weight in reward.model_dump().items() if weight}
    expected = sum(signs.get(name, 1) * weight * last[name] for name, weight in weights.items())
    assert last["reward"] == pytest.approx(expected, rel=1e-3, abs=1e-3)
