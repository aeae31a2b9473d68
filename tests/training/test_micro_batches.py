"""Pieces of a batch give its gradient; a batch that does not fit in memory is cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fsgr_model.config.training_params import ContrastParams
from fsgr_model.training import gradient
from fsgr_model.training.loop import Loop
from fsgr_model.training.xe import CrossEntropy
from pipeline.train_scst import train_scst
from pipeline.train_xe import train_xe
from tests.training.test_processes import read_curve, trained
from tests.worlds.processes import in_processes


def weights_and_curve(run):
    return load_file(run.out / "model.safetensors"), read_curve(run)


def assert_same(found, expected):
    (weights, (names, curve)), (weights_too, (names_too, curve_too)) = found, expected
    assert names == names_too
    assert curve == pytest.approx(curve_too, rel=1e-4, abs=1e-5)
    for name in weights:
        # A softmax does not depend on the bias of its keys: its gradient is rounding, which Adam scales up.
        if not name.endswith("attention.key.bias"):
            weight, weight_too = np.asarray(weights[name]), np.asarray(weights_too[name])
            assert np.linalg.norm(weight - weight_too) <= 1e-5 * np.linalg.norm(weight), name


@pytest.fixture
def by_image(tmp_path, run_in, model_params, xe_params):
    """One process that draws by image, as those do that share batches: its run, weights and curve."""
    run = run_in("whole")
    (found,) = in_processes(1, tmp_path / "1", trained, run, train_xe, 1e-3, model_params, xe_params)
    return run, found


@pytest.mark.parametrize("images", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3))])
def test_pieces_train_the_same_network(run_in, model_params, xe_params, by_image, images):
    """Batches of 5 images, the last of 4."""
    run = replace(run_in("cut"), micro_batch=images)
    train_xe(run, 1e-3, model_params, xe_params)
    assert_same(weights_and_curve(run), by_image[1])


@pytest.mark.slow
def test_pieces_of_two_processes_train_the_same_network(tmp_path, run_in, model_params, xe_params, by_image):
    run = replace(run_in("cut"), micro_batch=2)
    in_processes(2, tmp_path / "2", trained, run, train_xe, 1e-3, model_params, xe_params)
    assert_same(weights_and_curve(run), by_image[1])


@pytest.mark.slow
def test_pieces_of_scst_train_the_same_network(tmp_path, run_in, model_params, scst_params, by_image):
    """Samples have several lengths: words and samples are counted apart."""
    start, run = by_image[0], run_in("scst", "train_scst")
    given = (train_scst, start.out, model_params, scst_params)
    (expected,) = in_processes(1, tmp_path / "2", trained, run, *given)
    cut = replace(run_in("cut", "train_scst"), micro_batch=4)
    train_scst(cut, start.out, model_params, scst_params)
    assert_same(weights_and_curve(cut), expected)


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_cut(run_in, model_params, xe_params, by_image, monkeypatch, capsys):
    """Two of five images fit."""
    whole = CrossEntropy.loss

    def loss(task, model, batch, step):
        if len(batch.image_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(task, model, batch, step)

    monkeypatch.setattr(CrossEntropy, "loss", loss)
    run = run_in("cut")
    train_xe(run, 1e-3, model_params, xe_params)
    assert "2 images fit in memory at once, so batches are cut" in capsys.readouterr().out
    assert_same(weights_and_curve(run), by_image[1])


def test_several_processes_cut_what_one_of_them_cannot_hold(
    tmp_path, run_in, model_params, xe_params, by_image, monkeypatch
):
    """They have two and three of five images; the second one can hold two."""
    whole = CrossEntropy.loss

    def loss(task, model, batch, step):
        if len(batch.image_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(task, model, batch, step)

    monkeypatch.setattr(CrossEntropy, "loss", loss)
    monkeypatch.setattr(gradient, "may_run_out", lambda device: True)
    run = run_in("cut")
    in_processes(2, tmp_path / "2", trained, run, train_xe, 1e-3, model_params, xe_params)
    assert_same(weights_and_curve(run), by_image[1])


def test_a_loss_that_compares_images_says_that_it_is_not_cut(
    run_in, model_params, xe_params, monkeypatch, capsys
):
    monkeypatch.setattr(Loop, "run", lambda loop: [{"epoch": 0, "lr": 0.0}])
    xe = xe_params.model_copy(update={"contrast": ContrastParams(weight=0.1, anchors=20)})
    train_xe(replace(run_in("contrast"), micro_batch=2), 1e-3, model_params, xe)
    assert (
        "note: XE compares images of a batch, so runtime.micro_batch has no effect" in capsys.readouterr().out
    )
