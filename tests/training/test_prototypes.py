"""Prototypes: banks that stay within their window, K-means, nearest neighbours, and training with them."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from fsgr_model.config.model_params import ModelParams, PrototypeParams, SlotParams
from fsgr_model.network.assembly import load_weights
from fsgr_model.network.memory import Prototypes
from fsgr_model.network.packing import Packing
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.stopping import Stopped
from fsgr_model.text.vocabulary import PAD
from fsgr_model.training.loop import Loop
from fsgr_model.training.prototypes import Banks, PrototypeSearch, cluster, neighbours
from fsgr_model.training.task import Step
from fsgr_model.training.validation import Validation
from fsgr_model.training.xe import CrossEntropy
from pipeline.train_scst import train_scst
from pipeline.train_xe import train_xe
from tests.training.test_training import history_of, same, stop_after, weights_of
from tests.worlds.captioner import assemble, images_of

CPU = torch.device("cpu")
D = 8
STEP = Step(seed=1, epoch=1, index=0)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def remembering(params: ModelParams, **changes: int) -> ModelParams:
    sizes = {"size": 6, "window": 4, "refresh": 3, "neighbours": 5} | changes
    return params.model_copy(update={"memory": PrototypeParams(kind="prototypes", **sizes)})


@pytest.fixture
def with_memory(model_params) -> ModelParams:
    """A window of 4 of the 15 steps, prototypes from step 5 on, anew after every 3."""
    return remembering(model_params)


def prototypes_of(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: x for name, x in tensors.items() if name.endswith(("memory.key_MD", "memory.value_MD"))}


def test_clusters_that_lie_apart_are_found():
    rng = np.random.default_rng(0)
    centre_MD = 100 * rng.normal(size=(5, D))
    member_N = np.repeat(np.arange(5), 40)
    row_ND = (centre_MD[member_N] + rng.normal(size=(200, D))).astype(np.float32)
    mean_MD = np.stack([row_ND[member_N == m].mean(axis=0) for m in range(5)])
    # From a row of each, so that what is tested is the clustering and not the luck of the first draw.
    found_MD = cluster(rng.permutation(row_ND), 5, seed=0, start_MD=row_ND[::40].copy())
    np.testing.assert_allclose(found_MD, mean_MD, rtol=1e-4, atol=1e-3)


def test_the_seed_fixes_the_clusters():
    row_ND = np.random.default_rng(0).normal(size=(300, D)).astype(np.float32)
    assert np.array_equal(
        cluster(row_ND, 9, seed=3, start_MD=None), cluster(row_ND, 9, seed=3, start_MD=None)
    )
    assert not np.array_equal(
        cluster(row_ND, 9, seed=3, start_MD=None), cluster(row_ND, 9, seed=4, start_MD=None)
    )


def test_neighbours_by_brute_force():
    rng = np.random.default_rng(0)
    centroid_MD, row_ND = (rng.normal(size=(n, D)).astype(np.float32) for n in (6, 50))
    near_Mk, weight_Mk = neighbours(centroid_MD, row_ND, 7)
    squared_MN = ((centroid_MD[:, None] - row_ND[None]) ** 2).sum(axis=-1)
    order_Mk = squared_MN.argsort(axis=1)[:, :7]
    assert np.array_equal(near_Mk, order_Mk)
    squared_Mk = np.take_along_axis(squared_MN, order_Mk, axis=1)
    weight = np.exp(-squared_Mk / np.median(squared_Mk))
    np.testing.assert_allclose(weight_Mk, weight / weight.sum(axis=1, keepdims=True), rtol=1e-4)


def test_neighbours_that_all_lie_on_the_centroid_weigh_the_same():
    near_Mk, weight_Mk = neighbours(np.ones((2, D), np.float32), np.ones((5, D), np.float32), 4)
    np.testing.assert_allclose(weight_Mk, np.full((2, 4), 0.25))
    assert all(len(set(row)) == 4 for row in near_Mk.tolist())


def push(banks: Banks, step: int, rows: int, pads: int = 0) -> None:
    """Words of a step, each naming step and row; of pads, rows of 999."""
    key_ND = torch.full((rows, D), float(step)) + torch.arange(rows)[:, None] / 64
    key_ND[rows - pads :] = 999
    banks.push([key_ND, -key_ND], [2 * key_ND, -2 * key_ND], torch.arange(rows) < rows - pads)


def test_banks_hold_the_words_of_the_last_steps_only():
    banks = Banks(layers=2, window=3, rows=5, d_model=D, device=CPU)
    size = sum(tensor.nbytes for tensor in banks.tensors().values())
    for step in range(8):
        push(banks, step, rows=20, pads=6)
        key_ND, value_ND = banks.rows(0)
        held = key_ND[:, 0].floor().int().tolist()
        assert sorted(set(held)) == list(range(max(0, step - 2), step + 1))
        assert len(held) == 5 * min(step + 1, 3) and len(set(key_ND[:, 0].tolist())) == len(held)
        # The same words of keys and values, and of every layer.
        assert torch.equal(value_ND, 2 * key_ND)
        assert torch.equal(banks.rows(1)[0], -key_ND)
    assert size == sum(tensor.nbytes for tensor in banks.tensors().values())
    assert banks.key_ATRD.nbytes + banks.value_ATRD.nbytes == 4 * 2 * 3 * 5 * D


def test_a_step_with_few_words_leaves_places_empty():
    banks = Banks(layers=2, window=2, rows=5, d_model=D, device=CPU)
    for step, (rows, pads) in enumerate([(20, 0), (20, 0), (9, 6), (2, 0)]):
        push(banks, step, rows, pads)
    assert banks.rows(0)[0][:, 0].floor().int().tolist() == [2, 2, 2, 3, 3]


def test_padding_takes_no_words_place():
    for seed in range(20):
        torch.manual_seed(seed)
        banks = Banks(layers=2, window=1, rows=5, d_model=D, device=CPU)
        push(banks, 0, rows=200, pads=194)
        assert banks.rows(0)[0][:, 0].floor().int().tolist() == [0] * 5


def test_every_word_of_a_step_is_as_likely_to_be_kept():
    torch.manual_seed(0)
    counts = torch.zeros(20)
    for _ in range(2000):
        banks = Banks(layers=2, window=1, rows=5, d_model=D, device=CPU)
        push(banks, 0, rows=20, pads=4)
        counts[(banks.rows(0)[0][:, 0] * 64).round().long()] += 1
    assert (counts[16:] == 0).all()
    expected = 2000 * 5 / 16
    assert (counts[:16] - expected).abs().max() < 4 * (expected * 11 / 16) ** 0.5


def trained_step(tiny_data, params: ModelParams):
    """A network, the search on it, and a batch of the tiny world."""
    assembly = assemble(tiny_data, "train", params, 0)
    images = images_of(tiny_data, "train", assembly)
    batch = images.batch(images.image_ids[:6]).to(CPU)
    return assembly.captioner, PrototypeSearch(assembly.captioner, params.memory, params.d_model), batch


def test_what_is_recorded_are_the_projected_keys_and_values_of_counted_words(tiny_data, with_memory):
    model, search, batch = trained_step(tiny_data, remembering(with_memory, window=2))
    layer = model.decoder.layers[1].self_attention
    seen = {}
    for name in ("key", "value"):
        layer.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.__setitem__(name, output.detach())
        )
    CrossEntropy(prototypes=search).loss(model.eval(), batch, STEP)
    counted_BSL = batch.caption_BSL[..., 1:] != PAD
    counted = Packing.of(counted_BSL).counted_BQ.flatten()
    key_ND, value_ND = search.banks.rows(1)
    # The banks keep up to 192 words per step, more than the batch has: all of them, in a random order.
    projected_ND = torch.cat([seen[name].flatten(0, 1)[counted] for name in ("key", "value")], dim=1).half()
    assert len(key_ND) == counted_BSL.sum() < counted.numel()
    assert sorted(torch.cat([key_ND, value_ND], dim=1).tolist()) == sorted(projected_ND.float().tolist())


def test_prototypes_are_centroids_and_means_of_the_values_around_them(tiny_data, with_memory):
    model, search, batch = trained_step(tiny_data, with_memory)
    task = CrossEntropy(prototypes=search)
    for _ in range(4):
        task.loss(model.train(), batch, STEP)
    assert all(len(memory.key_MD) == 0 for memory in search.memories) and not search.found
    search.renew_if_due()
    assert search.found
    for layer, memory in enumerate(search.memories):
        key_ND, value_ND = search.banks.rows(layer)
        squared_MN = torch.cdist(memory.key_MD.double(), key_ND.double()).square()
        near = squared_MN.topk(5, largest=False)
        weight = torch.softmax(-near.values / near.values.flatten().quantile(0.5), dim=1)
        expected = (weight[..., None] * value_ND.double()[near.indices]).sum(dim=1)
        torch.testing.assert_close(memory.value_MD.double(), expected, atol=1e-4, rtol=1e-3)
        # Each centroid is the mean of the keys that are nearest to it, once K-means has converged.
        member_N = squared_MN.argmin(dim=0)
        means = torch.stack([key_ND[member_N == m].mean(dim=0) for m in range(6)])
        torch.testing.assert_close(memory.key_MD, means, atol=1e-3, rtol=1e-3)


def test_prototypes_come_when_the_window_is_full_and_then_at_each_refresh(tiny_data, with_memory):
    model, search, batch = trained_step(tiny_data, with_memory)
    task = CrossEntropy(prototypes=search)
    keys = []
    for step in range(12):
        torch.manual_seed(step)
        task.loss(model.train(), batch, STEP)
        keys.append(search.memories[0].key_MD)
    renewed = [step for step in range(1, 12) if keys[step] is not keys[step - 1]]
    assert renewed == [4, 7, 10]
    assert len(keys[3]) == 0 and len(keys[4]) == 6


def test_new_centroids_start_from_the_old_ones(tiny_data, with_memory):
    """With the same words in the window, no prototype changes its place."""
    model, search, batch = trained_step(tiny_data, with_memory)
    for _ in range(4):
        CrossEntropy(prototypes=search).loss(model.eval(), batch, STEP)
    search.renew_if_due()
    before = search.memories[0].key_MD
    search.renew_if_due()
    torch.testing.assert_close(search.memories[0].key_MD, before, atol=1e-4, rtol=1e-4)


def test_a_window_with_too_few_words_is_an_error(tiny_data, with_memory):
    model, search, batch = trained_step(tiny_data, remembering(with_memory, size=5000))
    for _ in range(4):
        CrossEntropy(prototypes=search).loss(model, batch, STEP)
    with pytest.raises(UserError, match=r"memory.window 4 steps have \d+ words, .* 5000 .* need 5000"):
        search.renew_if_due()


def test_training_that_ends_before_the_first_prototypes_is_refused(run_in, with_memory, xe_params):
    longer = remembering(with_memory, window=15)
    with pytest.raises(UserError, match=r"after model.memory.window 15 steps, but 3 epochs have 15"):
        train_xe(run_in("run"), 1e-3, longer, xe_params)
    few = replace(run_in("run"), train_images=2)
    with pytest.raises(UserError, match=r"after model.memory.window 4 steps, but 3 epochs have 3"):
        train_xe(few, 1e-3, with_memory, xe_params)


def test_segments_are_trained_once_there_are_prototypes(run_in, with_memory, xe_params):
    run = run_in("run")
    train_xe(run, 3e-3, with_memory, xe_params.model_copy(update={"epochs": 8}))
    weights = weights_of(run)
    assert all(len(x) == 6 and x.abs().sum() > 0 for x in prototypes_of(weights).values())
    assert weights["decoder.layers.0.self_attention.memory.prototype_segment_D"].abs().max() > 0


@pytest.mark.parametrize("steps", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 7))])
def test_a_stopped_run_goes_on_to_the_same_end(runs, run_in, with_memory, xe_params, monkeypatch, steps):
    """Stopped while the banks fill, behind the last step of an epoch, and before the second K-means."""
    whole = runs(3e-3, with_memory, xe_params)
    stopped = run_in("stopped")
    with monkeypatch.context() as patch:
        stop_after(patch, steps, signal.SIGTERM)
        with pytest.raises(Stopped):
            train_xe(stopped, 3e-3, with_memory, xe_params)
    train_xe(stopped, 3e-3, with_memory, xe_params)
    assert len(prototypes_of(weights_of(whole))) == 4
    assert same(weights_of(stopped), weights_of(whole))
    assert stopped.curve.read_text() == whole.curve.read_text()


def test_the_best_weights_hold_the_prototypes_of_their_moment(run_in, with_memory, xe_params, monkeypatch):
    scores = iter([0.0, 0.1, 0.9, 0.5, 0.4])
    at_validation = []

    def score(self, model, device):
        at_validation.append({name: x.clone() for name, x in model.checkpoint_tensors().items()})
        return next(scores)

    monkeypatch.setattr(Validation, "score", score)
    run = run_in("run")
    train_xe(run, 1e-3, with_memory, xe_params.model_copy(update={"epochs": 4}))
    assert same(weights_of(run), at_validation[2])
    best, last = prototypes_of(at_validation[2]), prototypes_of(at_validation[4])
    assert all(len(best[name]) == 6 and not torch.equal(best[name], last[name]) for name in best)


def test_a_best_network_without_prototypes_is_told(run_in, with_memory, xe_params, monkeypatch, capsys):
    monkeypatch.setattr(Validation, "score", lambda self, model, device: 0.5)
    train_xe(run_in("run"), 1e-3, with_memory, xe_params)
    assert "the best network is from before the first prototypes" in capsys.readouterr().out


def test_scst_keeps_the_prototypes_and_feeds_no_bank(
    runs, run_in, with_memory, xe_params, scst_params, monkeypatch
):
    xe, scst = runs(3e-3, with_memory, xe_params), run_in("scst", "train_scst")

    def pushed(self, *rows):
        raise AssertionError("SCST fed the banks")

    monkeypatch.setattr(Banks, "push", pushed)
    moved = []
    plain_step = Loop._train_step

    def step(self, batch):
        plain_step(self, batch)
        moved.append({name: x.clone() for name, x in self.model.checkpoint_tensors().items()})

    monkeypatch.setattr(Loop, "_train_step", step)
    train_scst(scst, xe.out, with_memory, scst_params)
    before = weights_of(xe)
    assert len(moved) > 4 and not same(moved[-1], before)
    assert len(prototypes_of(before)) == 4
    assert same(prototypes_of(moved[-1]), prototypes_of(before))
    assert same(prototypes_of(weights_of(scst)), prototypes_of(before))


def test_loaded_weights_see_their_prototypes(run_in, with_memory, xe_params, tiny_data):
    """The same captions from a file as from the network that was trained; without prototypes, others."""
    run = run_in("run")
    train_xe(run, 3e-3, with_memory, xe_params.model_copy(update={"epochs": 6}))
    assembly = assemble(tiny_data, "val", with_memory, 1)
    load_weights(run.out, assembly)
    model = assembly.captioner.eval()
    images = images_of(tiny_data, "val", assembly)
    batch = images.batch(images.image_ids).to(CPU)
    with torch.no_grad():
        seen = model(batch.tokens_BTW, batch.caption_BSL)
        for module in model.modules():
            if isinstance(module, Prototypes):
                module.replace(torch.empty(0, 24), torch.empty(0, 24))
        blind = model(batch.tokens_BTW, batch.caption_BSL)
    assert (seen - blind).abs().max() > 1e-2


def test_learned_slots_are_trained(run_in, model_params, xe_params):
    run = run_in("run")
    train_xe(
        run, 3e-3, model_params.model_copy(update={"memory": SlotParams(kind="learned", size=6)}), xe_params
    )
    assert weights_of(run)["decoder.layers.1.self_attention.memory.key_HMC"].shape == (4, 6, 6)
    assert float(history_of(run)[-1]["loss"]) < float(history_of(run)[1]["loss"])
