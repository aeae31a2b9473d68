"""Steps that a GPU replays: losses, gradients and samples of plain steps; a resumed run ends alike."""

import signal

import pytest
import torch

from bench.networks import TINY, captioner_on_outputs, random_batch, random_captions
from fsgr_model.inference.decoding import sample
from fsgr_model.runtime.stopping import Stopped
from fsgr_model.scoring.cider_d import CiderD
from fsgr_model.scoring.document_frequencies import DocumentFrequencies
from fsgr_model.text.vocabulary import EOS, PAD
from fsgr_model.training.batches import Batch, fill_up
from fsgr_model.training.scst import SelfCritical, leave_one_out_advantage, policy_loss
from fsgr_model.training.task import Step, Task
from fsgr_model.training.xe import CrossEntropy, padded_loss
from pipeline.train_scst import train_scst
from pipeline.train_xe import train_xe
from tests.training.test_training import same, stop_after, weights_of

CPU = torch.device("cpu")
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = [CPU, pytest.param(torch.device("cuda"), marks=[pytest.mark.gpu, NO_GPU])]


def captioner(device: torch.device):
    torch.manual_seed(0)
    return captioner_on_outputs(TINY, device).eval()


def uneven_batch(device: torch.device) -> Batch:
    """Captions of several lengths, one of which is missing."""
    batch = random_batch(TINY, 3, token_width=TINY.outputs_width, device=device)
    caption_BSL = batch.caption_BSL.clone()
    caption_BSL[1, 1] = caption_BSL[0, 0, 4:] = caption_BSL[2, :, 5:] = PAD
    return Batch(batch.image_ids, batch.tokens_BTW, caption_BSL)


def scst() -> SelfCritical:
    captions = random_captions(TINY, 20)
    reward = CiderD(dict(enumerate(captions)), DocumentFrequencies.build(captions, TINY.num_words), True)
    return SelfCritical(reward, num_samples=4, max_length=9)


def gradients_of(model, loss: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return [loss.detach(), *(weight.grad for weight in model.parameters() if weight.grad is not None)]


def assert_near(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_words_read_with_their_padding_have_the_loss_of_packed_ones() -> None:
    model, batch = captioner(CPU), uneven_batch(CPU)
    padded = padded_loss(model, batch.tokens_BTW, fill_up(batch.caption_BSL))
    packed, _ = CrossEntropy().loss(model, batch, Step(0, 1, 0))
    assert fill_up(batch.caption_BSL).shape[-1] == 8 > batch.caption_BSL.shape[-1]
    assert_near(gradients_of(model, padded), gradients_of(model, packed))


def test_the_policy_loss_of_padded_samples_is_that_of_packed_ones() -> None:
    model, batch, task = captioner(CPU), uneven_batch(CPU), scst()
    with torch.no_grad():
        model.decoder.output.weight[EOS] += 0.3
    torch.manual_seed(1)
    packed, report = task.loss(model, batch, Step(0, 1, 0))
    torch.manual_seed(1)
    with torch.no_grad():
        caption_BSL = task.draw(model, model.encode(batch.tokens_BTW).start)
    advantage_BS = leave_one_out_advantage(task.rewards(batch.image_ids, caption_BSL))
    padded = policy_loss(model, batch.tokens_BTW, caption_BSL, advantage_BS)
    assert (caption_BSL == PAD).any() and report["length"] < caption_BSL.shape[-1]
    assert_near(gradients_of(model, padded), gradients_of(model, packed))


@torch.no_grad()
def test_samples_of_fixed_shapes_are_the_same() -> None:
    model, batch = captioner(CPU), uneven_batch(CPU)
    start, lengths = model.encode(batch.tokens_BTW).start, set()

    def soon_ending(word_BS, state):
        logits_BSV, state = model.step(word_BS, state)
        logits_BSV[..., EOS] += 3.0
        return logits_BSV, state

    for seed in range(6):
        drawn = []
        for fixed_shapes in (False, True):
            torch.manual_seed(seed)
            sizes = {"num_samples": 4, "max_length": 9}
            drawn.append(sample(soon_ending, start, 3, **sizes, fixed_shapes=fixed_shapes))
        plain_BSL, fixed_BSL = drawn
        longest = plain_BSL.shape[-1]
        assert fixed_BSL.shape == (3, 4, 9)
        assert torch.equal(fixed_BSL[..., :longest], plain_BSL) and (fixed_BSL[..., longest:] == PAD).all()
        lengths.add(longest)
    assert len(lengths) > 1


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("kind", ["XE", "SCST"])
def test_replayed_steps_are_near_plain_ones(kind: str) -> None:
    device = torch.device("cuda")
    model, batch = captioner(device), uneven_batch(device)
    with torch.no_grad():
        model.decoder.output.weight[EOS] += 0.3

    def step_of(task: Task[Batch], index: int) -> list[torch.Tensor]:
        """Nothing of a step's graph may live on when the next one is recorded."""
        torch.manual_seed(index)
        loss, report = task.loss(model, batch, Step(0, 1, index))
        return [*gradients_of(model, loss), torch.tensor(list(report.values()))]

    results = []
    for replays in (False, True):
        task: Task[Batch] = CrossEntropy() if kind == "XE" else scst()
        task.replays = replays
        results += [step_of(task, index) for index in range(3)]
    for plain, replayed in zip(results[:3], results[3:], strict=True):
        assert_near(replayed, plain)


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("steps", [2, 3, 7])
@pytest.mark.parametrize("stage", ["train_xe", "train_scst"])
def test_a_stopped_run_on_a_gpu_goes_on_to_the_same_end(
    run_in, model_params, xe_params, scst_params, monkeypatch, steps, stage
) -> None:
    first = run_in("first")
    train_xe(first, 1e-3, model_params, xe_params)

    def train(run) -> None:
        if stage == "train_xe":
            train_xe(run, 1e-3, model_params, xe_params)
        else:
            train_scst(run, first.out, model_params, scst_params)

    whole = run_in("whole", stage)
    train(whole)
    stopped = run_in("stopped", stage)
    with monkeypatch.context() as patch:
        stop_after(patch, steps, signal.SIGTERM)
        with pytest.raises(Stopped):
            train(stopped)
    train(stopped)
    assert stopped.curve.read_text() == whole.curve.read_text()
    assert same(weights_of(stopped), weights_of(whole))
