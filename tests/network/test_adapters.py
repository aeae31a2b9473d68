"""Adapters start as the identity, and are the published bottleneck."""

import torch
from torch.nn import functional as F

from fsgr_model.network.tuned_tail import Adapter


def test_an_adapter_starts_as_exactly_the_identity():
    torch.manual_seed(0)
    z = torch.randn(4, 7, 32)
    assert torch.equal(Adapter(32)(z), z)


def test_only_the_first_matrix_starts_away_from_zero():
    torch.manual_seed(0)
    adapter = Adapter(768)
    assert adapter.down.weight.shape == (192, 768)
    assert abs(adapter.down.weight.std().item() - 0.02) < 1e-3
    assert not any(w.any() for w in (adapter.down.bias, adapter.up.weight, adapter.up.bias))


def test_an_adapter_adds_its_bottleneck_to_its_input():
    torch.manual_seed(0)
    adapter = Adapter(8)
    with torch.no_grad():
        for weight in adapter.parameters():
            weight.normal_()
    z = torch.randn(3, 8)
    hidden = F.gelu(z @ adapter.down.weight.T + adapter.down.bias)
    torch.testing.assert_close(adapter(z), z + hidden @ adapter.up.weight.T + adapter.up.bias)
