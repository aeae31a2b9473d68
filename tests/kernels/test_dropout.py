"""Dropout keeps the mean, drops as often as it says, anywhere, and does nothing in evaluation."""

import pytest
import torch

from fsgr_model.kernels.dropout import FastDropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_and_mean(p):
    torch.manual_seed(0)
    x = torch.ones(1000, 1001)
    dropped = FastDropout(p)(x)
    share = (dropped == 0).float().mean().item()
    assert share == pytest.approx(round(256 * p) / 256, abs=2e-3)
    assert dropped.mean().item() == pytest.approx(1.0, abs=5e-3)
    # Every place is dropped as often as any other: no byte of the random words is special.
    by_place = (dropped.view(-1)[: 8 * 125_000].view(-1, 8) == 0).float().mean(dim=0)
    assert (by_place - share).abs().max() < 6e-3


def test_gradient_flows_where_the_value_did():
    torch.manual_seed(0)
    x = torch.randn(7, 5, requires_grad=True)
    dropped = FastDropout(0.4)(x)
    dropped.sum().backward()
    assert torch.equal(x.grad != 0, dropped != 0)
    assert (x.grad == 0).any() and (x.grad != 0).any()


def test_evaluation_and_zero_leave_everything():
    x = torch.randn(3, 4)
    assert FastDropout(0.5).eval()(x) is x
    assert FastDropout(0.0)(x) is x


def test_the_seed_fixes_the_mask():
    x = torch.ones(99)
    torch.manual_seed(3)
    first = FastDropout(0.3)(x)
    torch.manual_seed(3)
    assert torch.equal(FastDropout(0.3)(x), first)
    assert not torch.equal(FastDropout(0.3)(x), first)
