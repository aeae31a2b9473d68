"""What can go wrong in training: a signal at a bad step, bad numbers, a GPU that is too small."""

import math
import os
import shutil
import signal
import time
from dataclasses import replace

import h5py
import pytest
import torch
from safetensors.torch import load_file

from fsgr_model.config.training_params import ScheduleParams
from fsgr_model.runtime import stopping
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.stopping import Stopped
from fsgr_model.training.loop import Loop
from fsgr_model.training.validation import Validation
from fsgr_model.training.xe import CrossEntropy
from pipeline.train_xe import train_xe
from tests.worlds.captioner import CONTRAST


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def equal_ends(one, other) -> bool:
    """Whether two runs gave the same weights and the same curve, to the last digit."""
    a, b = (load_file(run.out / "model.safetensors") for run in (one, other))
    same_weights = a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    return same_weights and one.curve.read_text() == other.curve.read_text()


def test_too_small_a_gpu_names_the_batch_that_fits(run_in, model_params, xe_params, monkeypatch):
    """Of a loss that cannot be cut; tried with the loss itself; what was saved before stays."""
    plain = CrossEntropy.loss
    xe = xe_params.model_copy(update={"contrast": CONTRAST})
    tried = []

    def too_large(self, model, batch, step):
        tried.append(len(batch.image_ids))
        if len(batch.image_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. GPU 0 has")
        return plain(self, model, batch, step)

    monkeypatch.setattr(CrossEntropy, "loss", too_large)
    run = run_in("run")
    with pytest.raises(UserError, match=r"xe.batch_size: a step of 5 images .*; 2 fit, set xe.batch_size: 2"):
        train_xe(run, 1e-3, model_params, xe)
    assert tried == [5, 2]
    assert list((run.out.parent / ".resume").glob("*/state.safetensors"))


def test_a_loss_no_better_than_blind_guessing_is_reported(
    run_in, model_params, xe_params, monkeypatch, capsys
):
    warning = "is not below that of blind guessing, ln V = "
    train_xe(run_in("good"), 1e-3, model_params, xe_params)
    assert warning not in capsys.readouterr().out
    plain = CrossEntropy.loss

    def hopeless(self, model, batch, step):
        loss, report = plain(self, model, batch, step)
        return 0 * loss + 9.5, report

    monkeypatch.setattr(CrossEntropy, "loss", hopeless)
    warm_up = ScheduleParams(warmup_epochs=1, decay=[])
    train_xe(run_in("bad"), 1e-3, model_params, xe_params.model_copy(update={"schedule": warm_up}))
    lines = [line for line in capsys.readouterr().out.splitlines() if warning in line]
    # Epoch 1 is the warm-up.
    assert [line.split(":")[1] for line in lines] == [" XE epoch 2", " XE epoch 3"]


def test_a_stop_during_validation_loses_no_step(runs, run_in, model_params, xe_params, monkeypatch):
    """The second validation, behind epoch 1, is interrupted: what was trained is saved as it is."""
    whole = runs(1e-3, model_params, xe_params)
    stopped = run_in("stopped")
    plain, scored = Validation.score, []

    def score(self, model, device):
        scored.append(1)
        if len(scored) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, model, device)

    with monkeypatch.context() as patch:
        patch.setattr(Validation, "score", score)
        with pytest.raises(Stopped, match="saved XE epoch 1/3, step 5 in "):
            train_xe(stopped, 1e-3, model_params, xe_params)
    steps = []
    plain_step = Loop._train_step
    monkeypatch.setattr(Loop, "_train_step", lambda self, batch: steps.append(1) or plain_step(self, batch))
    train_xe(stopped, 1e-3, model_params, xe_params)
    assert len(steps) == 10
    assert equal_ends(stopped, whole)


def test_a_step_that_never_ends_is_given_up_and_redone(runs, run_in, model_params, xe_params, monkeypatch):
    whole, stopped = runs(1e-3, model_params, xe_params), run_in("stopped")
    plain, taken = CrossEntropy.loss, []

    def slow(self, model, batch, step):
        taken.append(1)
        if len(taken) == 7:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        return plain(self, model, batch, step)

    with monkeypatch.context() as patch:
        patch.setattr(CrossEntropy, "loss", slow)
        patch.setattr(stopping, "GRACE_SECONDS", 0.1)
        with pytest.raises(Stopped, match="a step took too long; the last resume point is kept in "):
            train_xe(stopped, 1e-3, model_params, xe_params)
    train_xe(stopped, 1e-3, model_params, xe_params)
    assert equal_ends(stopped, whole)


def test_a_damaged_feature_of_a_training_image_is_named_at_the_first_step(
    run_in, model_params, xe_params, tiny_data, tmp_path
):
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    with h5py.File(data / "features" / "train.h5", "r+") as file:
        file["tokens"][3, 2, 1] = math.nan
        image_id = int(file["image_ids"][3])
    with pytest.raises(
        UserError, match=rf"train.h5 is damaged: the row of image {image_id} holds nan at \[2, 1\]"
    ):
        train_xe(replace(run_in("run"), data=data), 1e-3, model_params, xe_params)


def test_a_label_that_is_no_concept_is_named(run_in, model_params, xe_params, tiny_data, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    with h5py.File(data / "labels" / "train.h5", "r+") as file:
        file["labels"][0, 4] = 6
        image_id = int(file["image_ids"][0])
    with pytest.raises(UserError, match=rf"row of image {image_id} holds 6 at \[4\].* numbers below 6"):
        contrast = xe_params.model_copy(update={"contrast": CONTRAST})
        train_xe(replace(run_in("run"), data=data), 1e-3, model_params, contrast)
