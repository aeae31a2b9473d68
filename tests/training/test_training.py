"""The loop: it learns, a stopped run goes on to the same end, and nothing bad is trained on."""

import math
import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from fsgr_model.clip.codebook import load_codebook
from fsgr_model.config.training_params import ContrastParams
from fsgr_model.inference.decoding import caption_log_probs, preceding_words
from fsgr_model.network.assembly import load_weights
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.stopping import Stopped
from fsgr_model.training.loop import Loop
from fsgr_model.training.scst import SelfCritical, leave_one_out_advantage
from fsgr_model.training.task import Step
from fsgr_model.training.xe import CrossEntropy
from pipeline.train_scst import train_scst
from pipeline.train_xe import train_xe
from tests.worlds.captioner import ADAM, ALIGNMENT, CONTRAST, MUON, assemble, images_of, reward_of

CPU = torch.device("cpu")
START = Step(seed=0, epoch=1, index=0)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def weights_of(run) -> dict[str, torch.Tensor]:
    return load_file(run.out / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def history_of(run) -> list[dict[str, str]]:
    header, *rows = (line.split("\t") for line in run.curve.read_text().splitlines())
    return [dict(zip(header, row, strict=True)) for row in rows]


def stop_after(monkeypatch, steps: int, number: signal.Signals) -> None:
    """Send this process a signal when it has taken so many steps."""
    plain_step = Loop._train_step
    taken = []

    def step(self, batch):
        plain_step(self, batch)
        taken.append(batch)
        if len(taken) == steps:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Loop, "_train_step", step)


PLAIN = pytest.param({"semantics": False, "residual": "pre"}, marks=pytest.mark.slow)


@pytest.mark.parametrize("changes", [{}, PLAIN])
def test_xe_learns_the_tiny_world(runs, model_params, xe_params, changes):
    longer = xe_params.model_copy(update={"epochs": 25})
    run = runs(3e-3, model_params.model_copy(update=changes), longer)
    scores = [float(row["val_CIDEr"]) for row in history_of(run)]
    assert max(scores) > 2.0 > 5 * scores[0]


@pytest.mark.slow
def test_scst_raises_the_reward_of_a_half_trained_network(run_in, model_params, xe_params, scst_params):
    xe = run_in("xe")
    train_xe(xe, 3e-3, model_params, xe_params.model_copy(update={"epochs": 8}))
    scst = run_in("scst", "train_scst")
    train_scst(scst, xe.out, model_params, scst_params.model_copy(update={"epochs": 30, "patience": 30}))
    xe_rows, rows = history_of(xe), history_of(scst)
    best = max(float(row["val_CIDEr"]) for row in xe_rows)
    assert float(rows[0]["val_CIDEr"]) == pytest.approx(best, rel=1e-4)
    rewards = [float(row["reward"]) for row in rows[1:]]
    assert sum(rewards[-5:]) > 1.3 * sum(rewards[:5])


@pytest.mark.slow
def test_shuffled_features_teach_nothing_of_the_image(runs, model_params, xe_params):
    longer = xe_params.model_copy(update={"epochs": 25})
    seeing = runs(3e-3, model_params, longer)
    blind = runs(3e-3, model_params, longer.model_copy(update={"shuffle_features": True}))
    best = [max(float(row["val_CIDEr"]) for row in history_of(run)) for run in (seeing, blind)]
    assert best[0] > 2 * best[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_goes_on_to_the_same_end(runs, run_in, model_params, xe_params, monkeypatch, number):
    whole = runs(1e-3, model_params, xe_params)
    stopped = run_in("stopped")
    with monkeypatch.context() as patch:
        stop_after(patch, 7, number)
        with pytest.raises(Stopped, match=f"stopped by {number.name}; saved XE epoch 2/3, step 2 in "):
            train_xe(stopped, 1e-3, model_params, xe_params)
    assert not stopped.out.exists()
    train_xe(stopped, 1e-3, model_params, xe_params)
    assert same(weights_of(stopped), weights_of(whole))
    assert stopped.curve.read_text() == whole.curve.read_text()
    assert not list((stopped.out.parent / ".resume").iterdir())


def test_scst_resumes_exactly_too(runs, run_in, model_params, xe_params, scst_params, monkeypatch):
    xe = runs(1e-3, model_params, xe_params)
    whole = run_in("whole", "train_scst")
    train_scst(whole, xe.out, model_params, scst_params)
    stopped = run_in("stopped", "train_scst")
    with monkeypatch.context() as patch:
        stop_after(patch, 3, signal.SIGTERM)
        with pytest.raises(Stopped):
            train_scst(stopped, xe.out, model_params, scst_params)
    train_scst(stopped, xe.out, model_params, scst_params)
    assert same(weights_of(stopped), weights_of(whole))
    assert stopped.curve.read_text() == whole.curve.read_text()


@pytest.fixture
def full_xe_params(xe_params):
    """XE with patch contrast, anchors drawn, and alignment long enough for all of its levels."""
    contrast = ContrastParams(weight=0.25, anchors=20)
    changes = {"contrast": contrast, "alignment": ALIGNMENT, "epochs": 5}
    return xe_params.model_copy(update=changes)


# Before any fine level has begun, and when all have.
@pytest.mark.parametrize(("steps", "optimiser"), [(2, ADAM), (22, MUON)])
def test_auxiliary_losses_resume_exactly_heads_included(
    runs, run_in, model_params, full_xe_params, monkeypatch, steps, optimiser
):
    stopped = replace(run_in("stopped"), optimiser=optimiser)
    whole = runs(1e-3, model_params, full_xe_params, optimiser=optimiser)
    with monkeypatch.context() as patch:
        stop_after(patch, steps, signal.SIGTERM)
        with pytest.raises(Stopped):
            train_xe(stopped, 1e-3, model_params, full_xe_params)
    train_xe(stopped, 1e-3, model_params, full_xe_params)
    assert same(weights_of(stopped), weights_of(whole))
    assert stopped.curve.read_text() == whole.curve.read_text()


def test_every_auxiliary_loss_has_its_own_column(runs, model_params, full_xe_params):
    rows = history_of(runs(1e-3, model_params, full_xe_params))
    levels = ["image_caption", "region_phrase", "patch_word"]
    assert set(rows[0]) == {"epoch", "lr", "loss", "xe", "contrast", *levels, "val_CIDEr", "val_distinct"}
    assert [row["region_phrase"] == "" for row in rows] == [True, True, False, False, False, False]
    weights = dict(zip(levels, [0.05, 0.1, 0.05], strict=True))
    expected = float(rows[5]["xe"]) + 0.25 * float(rows[5]["contrast"])
    expected += sum(weight * float(rows[5][level]) for level, weight in weights.items())
    assert float(rows[5]["loss"]) == pytest.approx(expected, rel=1e-4)


def test_the_weights_hold_nothing_of_the_auxiliary_losses(runs, model_params, xe_params, full_xe_params):
    plain, full = (runs(1e-3, model_params, xe) for xe in (xe_params, full_xe_params))
    assert weights_of(full).keys() == weights_of(plain).keys()
    assert not same(weights_of(full), weights_of(plain))


def test_without_auxiliary_losses_neither_label_maps_nor_text_tower_are_read(
    run_in, model_params, xe_params, monkeypatch
):
    def refuse(*arguments):
        raise AssertionError("read")

    for name in ("fsgr_model.training.inputs.label_maps", "pipeline.train_xe.TextTower"):
        monkeypatch.setattr(name, refuse)
    run = run_in("run")
    train_xe(run, 1e-3, model_params, xe_params)
    assert set(history_of(run)[0]) == {"epoch", "lr", "loss", "val_CIDEr", "val_distinct"}
    for change in ({"contrast": CONTRAST}, {"alignment": ALIGNMENT}):
        with pytest.raises(AssertionError, match="read"):
            train_xe(run_in("other"), 1e-3, model_params, xe_params.model_copy(update=change))


def test_label_maps_of_another_codebook_are_refused(
    run_in, model_params, full_xe_params, tiny_data, tmp_path
):
    other = tmp_path / "data"
    shutil.copytree(tiny_data, other)
    codebook = load_codebook(other / "codebook")
    replace(codebook, identity={"concepts": "others"}).save(other / "codebook")
    with pytest.raises(UserError, match=r"labels/train\.h5 was made with another codebook"):
        train_xe(replace(run_in("run"), data=other), 1e-3, model_params, full_xe_params)


def test_another_learning_rate_never_resumes_the_old_run(
    run_in, model_params, xe_params, monkeypatch, capsys
):
    run = run_in("run")
    with monkeypatch.context() as patch:
        stop_after(patch, 7, signal.SIGTERM)
        with pytest.raises(Stopped):
            train_xe(run, 1e-3, model_params, xe_params)
    capsys.readouterr()
    train_xe(run, 2e-3, model_params, xe_params)
    assert "going on" not in capsys.readouterr().out
    fresh = run_in("fresh")
    train_xe(fresh, 2e-3, model_params, xe_params)
    assert same(weights_of(run), weights_of(fresh))


def test_a_loss_that_is_not_finite_stops_the_run(run_in, model_params, xe_params, monkeypatch):
    plain = CrossEntropy.loss
    calls = []

    def poisoned(self, model, batch, step):
        calls.append(batch.image_ids)
        loss, report = plain(self, model, batch, step)
        return (loss * math.nan if len(calls) == 3 else loss), report

    monkeypatch.setattr(CrossEntropy, "loss", poisoned)
    run = run_in("run")
    with pytest.raises(UserError, match=r"XE epoch 1, step 3: loss nan.*learning rate 0.001.*not finite"):
        train_xe(run, 1e-3, model_params, xe_params)
    assert not run.out.exists()
    assert list((run.out.parent / ".resume").glob("*/best.safetensors"))


def test_weights_made_with_another_network_are_refused(run_in, model_params, xe_params, tiny_data):
    run = run_in("run")
    train_xe(run, 1e-3, model_params, xe_params.model_copy(update={"epochs": 1}))
    other = assemble(tiny_data, "train", model_params.model_copy(update={"d_ff": 64}), 0)
    with pytest.raises(UserError, match="made with another model"):
        load_weights(run.out, other)
    good = assemble(tiny_data, "train", model_params, 0)
    load_weights(run.out, good)
    (run.out / "model.safetensors").write_bytes((run.out / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(UserError, match="is damaged"):
        load_weights(run.out, good)


def test_a_network_without_semantics_reads_no_codebook(tiny_data, tmp_path, model_params):
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data, ignore=shutil.ignore_patterns("codebook"))
    plain = assemble(data, "train", model_params.model_copy(update={"semantics": False}), 0)
    assert plain.captioner.quantiser is None and plain.made_with["codebook"] is None
    with pytest.raises(UserError, match="codebook"):
        assemble(data, "train", model_params, 0)


def test_a_batch_in_another_order_gives_the_same_loss(tiny_data, model_params):
    assembly = assemble(tiny_data, "train", model_params, 0)
    images = images_of(tiny_data, "train", assembly)
    model = assembly.captioner.eval()
    ids = images.image_ids[:6]
    losses = [
        CrossEntropy().loss(model, images.batch(order).to(CPU), START)[0].item() for order in (ids, ids[::-1])
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_the_loss_is_the_mean_over_words_of_each_caption_alone(tiny_data, model_params):
    """Padding, and captions of other images in the batch, count nothing."""
    assembly = assemble(tiny_data, "train", model_params, 0)
    images = images_of(tiny_data, "train", assembly)
    model = assembly.captioner.eval()
    ids = images.image_ids[:4]
    total = words = 0.0
    for image_id in ids:
        for caption in images.captions[image_id]:
            alone = torch.tensor([[caption]])
            log_prob = model(images.batch([image_id]).to(CPU).tokens_BTW, alone[..., :-1]).log_softmax(-1)
            total -= log_prob.gather(-1, alone[..., 1:, None]).sum().item()
            words += len(caption) - 1
    loss, _ = CrossEntropy().loss(model, images.batch(ids).to(CPU), START)
    assert loss.item() == pytest.approx(total / words, rel=1e-5)


def test_leave_one_out_advantage_by_hand():
    reward = torch.tensor([[1.0, 2.0, 6.0], [3.0, 3.0, 3.0]])
    expected = torch.tensor([[1 - 4.0, 2 - 3.5, 6 - 1.5], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(leave_one_out_advantage(reward), expected)


def test_samples_are_scored_with_the_probabilities_they_were_drawn_with(tiny_data, model_params):
    """The one pass with gradient gives the log-probabilities of the step-by-step draw."""
    assembly = assemble(tiny_data, "train", model_params, 0)
    images = images_of(tiny_data, "train", assembly)
    model = assembly.captioner.eval()
    phase = SelfCritical(reward_of(tiny_data, assembly.vocabulary), num_samples=3, max_length=10)
    tokens = images.batch(images.image_ids[:4]).to(CPU).tokens_BTW
    caption_BSL = torch.tensor([[[5, 6, 3, 1, 1], [7, 3, 1, 1, 1], [5, 5, 5, 5, 5]]]).expand(4, -1, -1)
    state = model.encode(tokens).start
    padding_BSL = caption_BSL == 1
    log_prob_BSL = caption_log_probs(model.decoder(preceding_words(caption_BSL), state)[0], caption_BSL)
    assert (log_prob_BSL[padding_BSL] == 0).all()
    log_prob_N = phase.log_probs(model, state, caption_BSL)
    torch.testing.assert_close(log_prob_N, log_prob_BSL[~padding_BSL], atol=1e-5, rtol=1e-5)
    log_prob_BSL[~padding_BSL] = log_prob_N
    word_BS = torch.full((4, 3), 2)
    for position in range(5):
        logits, state = model.step(word_BS, state)
        logits[..., :3] = -torch.inf
        word_BS = caption_BSL[..., position]
        stepwise = logits.log_softmax(-1).gather(-1, word_BS[..., None])[..., 0]
        spoken = word_BS != 1
        torch.testing.assert_close(
            log_prob_BSL[..., position][spoken], stepwise[spoken], atol=1e-5, rtol=1e-5
        )


def test_an_image_encoded_once_for_both_passes_gives_the_gradient_of_one_encoded_twice(
    tiny_data, model_params, monkeypatch
):
    assembly = assemble(tiny_data, "train", model_params, 0)
    images = images_of(tiny_data, "train", assembly)
    model = assembly.captioner.eval()
    phase = SelfCritical(reward_of(tiny_data, assembly.vocabulary), num_samples=3, max_length=10)
    batch = images.batch(images.image_ids[:4]).to(CPU)

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        torch.manual_seed(0)
        phase.loss(model, batch, Step(0, 1, 0))[0].backward()
        return {name: weight.grad for name, weight in model.trained_weights().items()}

    once, scored = gradients(), phase.log_probs

    def encode_again(model, start, caption_BSL):
        return scored(model, model.encode(batch.tokens_BTW).start, caption_BSL)

    monkeypatch.setattr(phase, "log_probs", encode_again)
    twice = gradients()
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_a_reference_rewards_more_than_another_images_reference(tiny_data, model_params):
    assembly = assemble(tiny_data, "train", model_params, 0)
    images = images_of(tiny_data, "train", assembly)
    phase = SelfCritical(reward_of(tiny_data, assembly.vocabulary), num_samples=2, max_length=10)
    batch = images.batch(images.image_ids)
    own_BS = phase.rewards(batch.image_ids, batch.caption_BSL[..., 1:])
    other_BS = phase.rewards(batch.image_ids, batch.caption_BSL.roll(1, dims=0)[..., 1:])
    assert own_BS.mean() > 2 * other_BS.mean()
