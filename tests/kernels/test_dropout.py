"""Dropout keeps the mean, drops as often as it says, anywhere, and does nothing in evaluation."""

import pytest
import torch

from fsgr_model.kernels.dropout import FastDropout, at_least


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_and_mean(p):
    torch.manual_seed(0)
    x = torch.ones(1000, 1001)
    dropped = FastDropout(p)(x)
    share = (dropped == 0).float().mean().item()
    # Four standard deviations of a million draws.
    assert share == pytest.approx(p, abs=4 * (p * (1 - p) / 1_001_000) ** 0.5)
    assert dropped.mean().item() == pytest.approx(1.0, abs=5e-3)
    # Every place is dropped as often as any other: no part of the random words is special.
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


def test_given_the_mask_it_is_pytorchs_dropout():
    """Values and gradients, up to the last bits of the scale."""
    torch.manual_seed(0)
    x = torch.randn(200, 30, requires_grad=True)
    dropped = FastDropout(0.1)(x)
    mask = (dropped != 0).float()
    expected = x * mask / 0.9
    torch.testing.assert_close(dropped, expected, rtol=1e-4, atol=0)
    gradients = [torch.autograd.grad(y.square().sum(), x, retain_graph=True)[0] for y in (dropped, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=0)


def test_a_tenth_is_a_tenth():
    """26 bytes of 256, as a mask of bytes would have it, are 0.1016: fifty standard deviations away."""
    torch.manual_seed(1)
    x = torch.ones(10_000_000)
    share = (FastDropout(0.1)(x) == 0).float().mean().item()
    assert share == pytest.approx(0.1, abs=5e-4)


@torch.no_grad()
def test_neighbours_are_dropped_independently():
    torch.manual_seed(2)
    gone = (FastDropout(0.3)(torch.ones(4_000_000)) == 0).double()
    for distance in (1, 2, 3, 4, 5):
        both = (gone[:-distance] * gone[distance:]).mean().item()
        assert both == pytest.approx(0.09, abs=1e-3)


@pytest.mark.parametrize("threshold", [-32767, -26214, 0, 32767])
def test_the_mask_is_the_comparison(threshold):
    number = torch.arange(-32768, 32768).to(torch.int16)
    assert torch.equal(at_least(number, threshold).bool(), number >= threshold)


def test_a_probability_that_rounds_to_nothing_leaves_everything():
    x = torch.randn(3, 4)
    assert FastDropout(1e-6)(x) is x
