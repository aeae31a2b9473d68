"""Linear layers in oneDNN's layout: the same numbers, in place, for inference only."""

import pytest
import torch
from torch import nn

from fsgr_model.network.onednn_linear import OneDnnLinear, hand_to_onednn

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 24), (7, 24), (2, 3, 24), (2, 3, 5, 24)])
def test_computes_what_the_layer_did(shape, bias):
    torch.manual_seed(0)
    linear, x = nn.Linear(24, 10, bias=bias), torch.randn(shape)
    torch.testing.assert_close(OneDnnLinear(linear)(x), linear(x).detach(), atol=1e-5, rtol=1e-5)


@needs_onednn
def test_rows_that_do_not_lie_side_by_side():
    linear, x = nn.Linear(24, 10), torch.randn(24, 4, 3).permute(2, 1, 0)
    torch.testing.assert_close(OneDnnLinear(linear)(x), linear(x).detach(), atol=1e-5, rtol=1e-5)


class Owner(nn.Linear):
    """Stands for the output layer of nn.MultiheadAttention, whose weights its owner reads."""


@needs_onednn
def test_every_linear_layer_is_replaced_and_no_subclass(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    network = nn.Sequential(
        nn.Linear(4, 4), nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.ReLU())]), Owner(4, 4)
    )
    attention = nn.MultiheadAttention(4, 2)
    hand_to_onednn(nn.ModuleList([network, attention]))
    kinds = [type(module) for module in network.modules()]
    assert kinds.count(OneDnnLinear) == 2 and nn.Linear not in kinds and Owner in kinds
    assert isinstance(attention.out_proj, nn.Linear)


@pytest.mark.parametrize(("available", "capability"), [(False, "AVX512"), (True, "AVX2")])
def test_where_it_does_not_pay_nothing_changes(monkeypatch, available, capability):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: available)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    network = nn.Sequential(nn.Linear(4, 4))
    hand_to_onednn(network)
    assert type(network[0]) is nn.Linear
