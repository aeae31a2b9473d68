"""The captioner through CUDA graphs: the same captions, losses and gradients as without."""

import signal

import pytest
import torch

from bench.networks import TINY, captioner_on_outputs, random_batch
from fsgr_model.inference.decoding import sample
from fsgr_model.network.packing import Packing
from fsgr_model.runtime.stopping import Stopped
from fsgr_model.text.vocabulary import EOS, PAD
from fsgr_model.training.replayed import (
    ReplayedEncoder,
    ReplayedReading,
    ReplayedSampler,
    replay_on_gpu,
    state_of,
    tensors_of,
)
from fsgr_model.training.task import Step
from fsgr_model.training.xe import CrossEntropy
from pipeline.train_scst import train_scst
from pipeline.train_xe import train_xe
from tests.training.test_training import same, stop_after, weights_of

CPU = torch.device("cpu")
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = [CPU, pytest.param(torch.device("cuda"), marks=[pytest.mark.gpu, NO_GPU])]


def captioner(device: torch.device):
    torch.manual_seed(0)
    return captioner_on_outputs(TINY, device).eval()


@pytest.mark.parametrize("device", DEVICES)
def test_padded_words_have_the_logits_of_packed_ones(device: torch.device) -> None:
    """Captions of several lengths, one of which is missing; three times, so that a GPU replays."""
    model, batch = captioner(device), random_batch(TINY, 3, TINY.outputs_width, device)
    words_BSL = batch.caption_BSL[..., :-1].clone()
    counted_BSL = torch.ones_like(words_BSL, dtype=torch.bool)
    counted_BSL[0, 0, 2:] = counted_BSL[1, 1] = counted_BSL[2, :, 3:] = False
    packing = Packing.of(counted_BSL)
    expected_NV, _ = model.decoder(words_BSL, model.encode(batch.tokens_BTW).start, packing)
    encode, read = ReplayedEncoder(model), ReplayedReading(model.decoder)
    for _ in range(3):
        logits_NV, _ = read(words_BSL, encode(batch.tokens_BTW).start, packing)
        torch.testing.assert_close(logits_NV, expected_NV, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_a_replayed_encoder_gives_all_of_the_plain_one(device: torch.device) -> None:
    model, batch = captioner(device), random_batch(TINY, 3, TINY.outputs_width, device)
    plain, encode = model.encode(batch.tokens_BTW), ReplayedEncoder(model)
    for _ in range(3):
        found = encode(batch.tokens_BTW)
        assert torch.equal(found.visual_BGD, plain.visual_BGD)
        assert torch.equal(found.image_BGD, plain.image_BGD)
        assert torch.equal(found.concept_BG, plain.concept_BG)
        pairs = zip(tensors_of(found.start), tensors_of(plain.start), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


@torch.no_grad()
@pytest.mark.parametrize("device", DEVICES)
def test_samples_of_fixed_shapes_are_the_same(device: torch.device) -> None:
    model, batch = captioner(device), random_batch(TINY, 3, TINY.outputs_width, device)
    model.decoder.output.weight[EOS] += 0.3
    start = model.encode(batch.tokens_BTW).start
    draw = ReplayedSampler(model, num_samples=4, max_length=9)
    lengths = set()
    for seed in range(6):
        torch.manual_seed(seed)
        plain_BSL = sample(model.step, start, 3, num_samples=4, max_length=9)
        torch.manual_seed(seed)
        found_BSL = draw(start)
        assert torch.equal(found_BSL, plain_BSL)
        lengths |= set((plain_BSL != PAD).sum(dim=-1).flatten().tolist())
    assert len(lengths) > 3, "captions end at several lengths"


def test_a_state_is_made_of_its_tensors() -> None:
    model = captioner(CPU)
    start = model.encode(random_batch(TINY, 2, TINY.outputs_width, CPU).tokens_BTW).start
    again = state_of(tensors_of(start))
    assert len(again.layers) == len(start.layers) == TINY.decoder_layers
    assert all(a is b for a, b in zip(tensors_of(again), tensors_of(start), strict=True))


def test_nothing_is_replaced_on_a_cpu() -> None:
    model = captioner(CPU)
    replay_on_gpu(model)
    assert not {"encode"} & vars(model).keys() and "forward" not in vars(model.decoder)


@pytest.mark.gpu
@NO_GPU
def test_a_step_of_training_has_the_same_loss_and_gradients() -> None:
    """Without dropout, whose masks lie otherwise in padded words; the plain step first."""
    device = torch.device("cuda")
    batch = random_batch(TINY, 4, TINY.outputs_width, device)
    model, replayed = captioner(device), captioner(device)
    replay_on_gpu(replayed)
    for index in range(4):
        losses = []
        for network in (model, replayed):
            network.zero_grad()
            loss, _ = CrossEntropy().loss(network, batch, Step(0, 1, index))
            loss.backward()
            losses.append(loss.detach().clone())
        torch.testing.assert_close(losses[1], losses[0])
        for (name, a), (_, b) in zip(model.named_parameters(), replayed.named_parameters(), strict=True):
            if a.grad is not None:
                torch.testing.assert_close(b.grad, a.grad, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("steps", [2, 3, 7])
def test_a_stopped_run_on_a_gpu_goes_on_to_the_same_end(
    run_in, model_params, xe_params, scst_params, monkeypatch, steps
) -> None:
    """XE, then SCST: whether a step is replayed or not changes no bit of what comes out."""
    first = run_in("first")
    train_xe(first, 1e-3, model_params, xe_params)
    for stage, train in (
        ("train_xe", lambda run: train_xe(run, 1e-3, model_params, xe_params)),
        ("train_scst", lambda run: train_scst(run, first.out, model_params, scst_params)),
    ):
        whole, stopped = run_in(f"{stage} whole", stage), run_in(f"{stage} stopped", stage)
        monkeypatch.setenv("DVC_ROOT", str(whole.out.parent))
        train(whole)
        monkeypatch.setenv("DVC_ROOT", str(stopped.out.parent))
        with monkeypatch.context() as patch:
            stop_after(patch, steps, signal.SIGTERM)
            with pytest.raises(Stopped):
                train(stopped)
        train(stopped)
        assert same(weights_of(stopped), weights_of(whole)), stage
        assert stopped.curve.read_text() == whole.curve.read_text()
