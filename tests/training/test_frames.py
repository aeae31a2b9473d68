"""How deep the gradient lies below a stage: a reader comes to `loss.backward()` in four steps."""

import inspect
from pathlib import Path

import pytest
import torch

from pipeline.train_scst import train_scst
from pipeline.train_xe import train_xe

ROOT = Path(__file__).parents[2]


@pytest.fixture
def frames(monkeypatch):
    """Functions of the project between this test and each call of `backward`, from the outside in."""
    found = set()
    plain = torch.Tensor.backward

    def backward(self, *arguments, **named):
        files = [Path(frame.filename) for frame in inspect.stack()]
        names = [frame.function for frame in inspect.stack()]
        ours = [
            name
            for name, file in zip(names, files, strict=True)
            if file.is_relative_to(ROOT / "fsgr_model") or file.is_relative_to(ROOT / "pipeline")
        ]
        found.add(tuple(reversed(ours)))
        return plain(self, *arguments, **named)

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    return found


@pytest.mark.slow
def test_from_a_stage_to_the_gradient(frames, run_in, model_params, xe_params, scst_params):
    xe = run_in("xe")
    train_xe(xe, 1e-3, model_params, xe_params)
    train_scst(run_in("scst", "train_scst"), xe.out, model_params, scst_params)
    assert frames == {
        ("train_xe", "run", "_train_step", "compute"),
        ("train_scst", "run", "_train_step", "compute"),
    }
