"""What is measured beside each other does the same: the reference's numbers are ours."""

import pytest
import torch

from bench.networks import (
    TINY,
    captioner_on_outputs,
    captioner_on_tail,
    captioner_on_whole_clip,
    random_batch,
)
from bench.reference.network import reference_of
from bench.reference.search import beam_search as reference_beam_search
from bench.reference.training import reference_scst_step, reference_xe_step
from bench.scst_step import reward_of_random_captions
from fsgr_model.clip.model_building import build_model
from fsgr_model.clip.split import Tail, Trunk
from fsgr_model.inference.beam_search import beam_search
from fsgr_model.text.vocabulary import EOS
from fsgr_model.training.scst import SelfCritical
from fsgr_model.training.task import Step
from fsgr_model.training.xe import CrossEntropy

CPU = torch.device("cpu")
IMAGES = 3


@pytest.fixture
def batch():
    return random_batch(TINY, IMAGES, token_width=TINY.outputs_width, device=CPU)


@pytest.fixture
def ours():
    model = captioner_on_outputs(TINY, CPU).eval()
    with torch.no_grad():
        # Some captions of one image end before the last position.
        torch.manual_seed(0)
        model.decoder.output.weight[EOS] = 0.4 * torch.randn(TINY.d_model)
    return model


@pytest.fixture
def reference(ours):
    return reference_of(ours, TINY.params(), vision_width=TINY.grid_width, side=TINY.side).eval()


def test_the_loss_of_cross_entropy_is_the_same(ours, reference, batch, monkeypatch):
    expected, _ = CrossEntropy().loss(ours, batch, Step(0, 1, 0))
    seen = ours.tail(batch.tokens_BTW.repeat_interleave(TINY.captions, dim=0))
    monkeypatch.setattr(reference, "train", lambda: None)  # dropout differs
    optimiser = torch.optim.Adam(reference.parameters(), 1e-9)
    loss = reference_xe_step(reference, optimiser, seen, batch.caption_BSL.flatten(0, 1))
    assert loss == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("step", ["step", "step_again"])
@torch.no_grad()
def test_beam_search_finds_the_same_captions_with_the_same_scores(ours, reference, batch, step):
    start = ours.encode(batch.tokens_BTW).start
    caption_BSL, score_BS = beam_search(ours.step, start, IMAGES, beam_size=4, max_length=TINY.length)
    image_BGD = reference.encode(*ours.tail(batch.tokens_BTW))
    words, log_probs = reference_beam_search(
        reference, getattr(reference, step), image_BGD, 4, max_length=TINY.length
    )
    ended_BS = (caption_BSL == EOS).any(-1)
    assert ended_BS.any() and not ended_BS.all()
    assert torch.equal(caption_BSL, words[..., : caption_BSL.shape[-1]])
    torch.testing.assert_close(score_BS, log_probs.sum(-1), rtol=1e-4, atol=1e-4)


def test_a_self_critical_step_of_the_reference_moves_every_weight(ours, reference, batch):
    seen = ours.tail(batch.tokens_BTW)
    before = {name: weight.clone() for name, weight in reference.named_parameters()}
    optimiser = torch.optim.Adam(reference.parameters(), 1e-3)
    # Rewards that differ, whatever was found.
    captions = [[found] for found in first_captions(reference, seen)]
    reference_scst_step(reference, optimiser, seen, captions, samples=4, max_length=TINY.length)
    still = [n for n, weight in reference.named_parameters() if torch.equal(weight, before[n])]
    assert not [name for name in still if "bias" not in name]


@torch.no_grad()
def first_captions(reference, seen):
    found, _ = reference_beam_search(
        reference, reference.step, reference.encode(*seen), 4, max_length=TINY.length
    )
    return found[:, 0].tolist()


def test_whole_clip_with_prompts_in_the_last_blocks_alone_is_the_tuned_tail():
    """The prompts that are keys and values only, against prompts that go through all of a block."""
    tuned, whole = captioner_on_tail(TINY, CPU).eval(), captioner_on_whole_clip(TINY, CPU).eval()
    clip = build_model(TINY.clip, "bench").eval()
    whole.tail.visual.load_state_dict(clip.visual.state_dict())
    tail = tuned.tail
    blocks = len(clip.visual.transformer.resblocks)
    cut = blocks - len(tail.adapters)
    with torch.no_grad():
        tail.frozen.load_state_dict(Tail(clip, cut, "csa").state_dict())
        for place, adapter in enumerate(tail.adapters):
            adapter.up.weight.normal_(std=0.2)
            whole.tail.adapters[cut + place].load_state_dict(adapter.state_dict())
        whole.tail.prompts.vectors_NPW[cut:].copy_(tail.prompts.vectors_NPW)
        whole.tail.prompts.projection.load_state_dict(tail.prompts.projection.state_dict())
        images = torch.randn(2, 3, TINY.image_size, TINY.image_size)
        tokens_BTW = Trunk(clip, cut)(images)
        for number in range(cut, blocks):
            longer_BTW = whole.tail._block(number, tokens_BTW)
            ours_BTW = tail._prompted(number - cut, tokens_BTW)
            torch.testing.assert_close(ours_BTW, longer_BTW, rtol=1e-4, atol=1e-5)
            tokens_BTW = ours_BTW


def test_random_captions_are_rewarded_for_themselves():
    phase = SelfCritical(reward_of_random_captions(TINY), num_samples=TINY.captions, max_length=TINY.length)
    batch = random_batch(TINY, IMAGES, token_width=TINY.outputs_width, device=CPU)
    own = phase.rewards(batch.image_ids, batch.caption_BSL[..., 1:])
    other = phase.rewards(batch.image_ids, batch.caption_BSL.roll(1, dims=0)[..., 1:])
    assert own.mean() > other.mean()
