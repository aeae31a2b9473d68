"""Number formats of the products: near float32 where they should be, and a scale that finds its size."""

import math
from dataclasses import replace

import pytest
import torch

from fsgr_model.runtime.device import autocast
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.stopping import Stopped
from fsgr_model.training.xe import CrossEntropy
from pipeline.train_xe import train_xe
from tests.training.test_training import history_of, same, stop_after, weights_of

SIGTERM = 15


@pytest.mark.parametrize(
    ("precision", "near"), [("bf16", 0.05), ("fp16", 0.02), ("float32", 0.0), ("auto", 0.0)]
)
def test_the_loss_is_near_that_of_float32(runs, run_in, model_params, xe_params, precision, near):
    run = replace(run_in("run"), precision=precision)
    train_xe(run, 1e-3, model_params, xe_params)
    in_float32 = runs(1e-3, model_params, xe_params, precision="float32")
    losses, expected = ([float(row["loss"]) for row in history_of(each)[1:]] for each in (run, in_float32))
    assert losses == pytest.approx(expected, rel=near, abs=1e-12)
    assert (losses == expected) == (precision in ("auto", "float32")), "auto on a CPU"


def test_a_stopped_run_in_fp16_goes_on_with_its_scale(run_in, model_params, xe_params, monkeypatch):
    whole, stopped = (replace(run_in(name), precision="fp16") for name in ("whole", "stopped"))
    train_xe(whole, 1e-3, model_params, xe_params)
    with monkeypatch.context() as patch:
        stop_after(patch, 7, SIGTERM)
        with pytest.raises(Stopped):
            train_xe(stopped, 1e-3, model_params, xe_params)
    train_xe(stopped, 1e-3, model_params, xe_params)
    assert same(weights_of(stopped), weights_of(whole))


def overflowing(monkeypatch, steps: int) -> None:
    """Make the gradient infinite in so many first steps, where the loss is finite."""
    plain, taken = CrossEntropy.loss, []

    def loss(self, model, batch, step):
        taken.append(step)
        value, report = plain(self, model, batch, step)
        if len(taken) <= steps:
            value = value + (value - value.detach()) * 1e38 * 1e38
        return value, report

    monkeypatch.setattr(CrossEntropy, "loss", loss)


def test_a_step_whose_scaled_gradient_overflows_is_left_out(run_in, model_params, xe_params, monkeypatch):
    overflowing(monkeypatch, 2)
    run = replace(run_in("run"), precision="fp16")
    train_xe(run, 1e-3, model_params, xe_params)
    assert all(math.isfinite(float(row["loss"])) for row in history_of(run)[1:])
    assert all(weight.isfinite().all() for weight in weights_of(run).values())


def test_gradients_that_overflow_at_any_scale_stop_the_run(run_in, model_params, xe_params, monkeypatch):
    overflowing(monkeypatch, 1000)
    longer = xe_params.model_copy(update={"epochs": 9})
    with pytest.raises(UserError, match="not finite, so training stops"):
        train_xe(replace(run_in("run"), precision="fp16"), 1e-3, model_params, longer)


def test_only_what_is_asked_for_changes_the_format():
    x_2D = torch.randn(2, 8)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16), ("float32", torch.float32)):
        with autocast(torch.device("cpu"), precision):
            assert (x_2D @ x_2D.T).dtype == dtype
