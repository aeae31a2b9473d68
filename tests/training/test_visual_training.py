"""Adapters and prompts through both phases: trained, saved, loaded and resumed; CLIP's own weights never."""

import signal
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from fsgr_model.config.model_params import ModelParams
from fsgr_model.network.assembly import load_weights
from fsgr_model.runtime.stopping import Stopped
from fsgr_model.training.contrast import PatchContrast
from fsgr_model.training.inputs import label_maps
from fsgr_model.training.scst import SelfCritical
from fsgr_model.training.task import Step
from pipeline.train_scst import train_scst
from pipeline.train_xe import train_xe
from tests.training.test_training import START, history_of, same, stop_after, weights_of
from tests.worlds.captioner import (
    ADAM,
    ALIGNMENT,
    MUON,
    alignment_of,
    assemble,
    images_of,
    parts_of,
    reward_of,
    with_tail,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def visual_params(model_params) -> ModelParams:
    return with_tail(model_params, adapters=True, prompts=3)


def visual(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in weights.items() if name.startswith("tail.")}


@pytest.mark.slow
def test_both_phases_train_them_and_a_checkpoint_holds_nothing_else_of_clip(
    run_in, visual_params, xe_params, scst_params, tiny_data
):
    fresh = assemble(tiny_data, "train", visual_params, 7)
    start = {name: weight.detach().clone() for name, weight in fresh.captioner.trained_weights().items()}
    xe, scst = run_in("xe"), run_in("scst", "train_scst")
    train_xe(xe, 3e-3, visual_params, xe_params.model_copy(update={"epochs": 6}))
    careful = {"lr": 1e-4, "epochs": 12, "samples": 8, "patience": 12}
    train_scst(scst, xe.out, visual_params, scst_params.model_copy(update=careful))
    first, *scores = (float(row["val_CIDEr"]) for row in history_of(scst))
    assert max(scores) > first, "SCST kept the weights of XE, so this proves nothing"
    stages = [visual(start), visual(weights_of(xe)), visual(weights_of(scst))]
    assert {name.split(".")[1] for name in stages[0]} == {"adapters", "prompts"}
    for before, after in pairwise(stages):
        assert before.keys() == after.keys()
        assert not any(torch.equal(before[name], after[name]) for name in before)


def test_a_checkpoint_gives_the_same_network_again(run_in, visual_params, xe_params, tiny_data):
    run = run_in("xe")
    train_xe(run, 3e-3, visual_params, xe_params.model_copy(update={"epochs": 1}))
    again = [assemble(tiny_data, "train", visual_params, seed) for seed in (1, 2)]
    for assembly in again:
        load_weights(run.out, assembly)
    tokens_BTW = torch.randn(2, 10, 16)
    one, other = (assembly.captioner.eval().encode(tokens_BTW).start.layers[0] for assembly in again)
    assert torch.equal(one.image_keys, other.image_keys)
    assert same(weights_of(run), again[0].captioner.trained_weights())


def test_a_stopped_run_goes_on_to_the_same_end(run_in, visual_params, xe_params, monkeypatch):
    params = xe_params.model_copy(update={"epochs": 2})
    whole = replace(run_in("whole"), optimiser=MUON)
    train_xe(whole, 1e-3, visual_params, params)
    stopped = replace(run_in("stopped"), optimiser=MUON)
    with monkeypatch.context() as patch:
        stop_after(patch, 7, signal.SIGTERM)
        with pytest.raises(Stopped):
            train_xe(stopped, 1e-3, visual_params, params)
    train_xe(stopped, 1e-3, visual_params, params)
    assert same(weights_of(stopped), weights_of(whole))


def test_the_self_critical_loss_reaches_every_adapter_and_prompt(tiny_data, visual_params):
    assembly = assemble(tiny_data, "train", visual_params, 0)
    model = assembly.captioner.eval()
    weights = visual(model.trained_weights())
    with torch.no_grad():
        for weight in weights.values():
            weight.normal_(std=0.2)
    images = images_of(tiny_data, "train", assembly)
    phase = SelfCritical(reward_of(tiny_data, assembly.vocabulary), num_samples=4, max_length=10)
    torch.manual_seed(0)
    loss, _ = phase.loss(model, images.batch(images.image_ids[:6]).to(CPU), START)
    loss.backward()
    for name, weight in weights.items():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name
    # Each of the prompts, not only some.
    assert (weights["tail.prompts.vectors_NPW"].grad.abs().sum(-1) > 0).all()


def test_the_visual_side_learns_at_its_own_rate(run_in, visual_params, xe_params):
    """A share of nearly nothing leaves adapters and prompts nearly where they started."""
    moved = []
    for factor in (1e-6, 1.0):
        optimiser = ADAM.model_copy(update={"visual_lr_factor": factor})
        run = replace(run_in(f"share of {factor}"), optimiser=optimiser)
        start = assemble(run.data, "train", visual_params, run.seed).captioner.trained_weights()
        train_xe(run, 3e-3, visual_params, xe_params.model_copy(update={"epochs": 1}))
        after = visual(weights_of(run))
        moved.append(max((after[name] - start[name]).abs().max().item() for name in after))
    assert moved[0] < 1e-6 < 1e-3 < moved[1]


def test_every_auxiliary_loss_reaches_every_adapter_and_prompt(tiny_data, visual_params, run_in, xe_params):
    assembly = assemble(tiny_data, "train", visual_params, 0)
    model = assembly.captioner.train()
    weights = visual(model.trained_weights())
    with torch.no_grad():
        for weight in weights.values():
            weight.normal_(std=0.2)
    labels = label_maps(tiny_data, parts_of(tiny_data))
    images = images_of(tiny_data, "train", assembly, labels=labels)
    batch = images.batch(images.image_ids[:6]).to(CPU)
    seven_epochs = xe_params.model_copy(update={"epochs": 7, "alignment": ALIGNMENT})
    losses = [PatchContrast(0.25, 100), alignment_of(tiny_data, seven_epochs)]
    encoded = model.encode(batch.tokens_BTW)
    terms = [term for loss in losses for term in loss.terms(encoded, batch, Step(0, 7, 0))]
    assert len(terms) == 4
    for term in terms:
        gradients = torch.autograd.grad(term.loss, list(weights.values()), retain_graph=True)
        for name, gradient in zip(weights, gradients, strict=True):
            assert gradient.abs().sum() > 0, (term.name, name)
