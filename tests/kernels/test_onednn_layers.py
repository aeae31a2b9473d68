"""Linear layers by oneDNN: the same numbers, in place; in its own layout for inference only."""

import pytest
import torch
from torch import nn

from fsgr_model.kernels import products as linear_module
from fsgr_model.kernels.onednn_layers import (
    OneDnnLinear,
    TrainedLinear,
    use_onednn_for_inference,
    use_onednn_for_training,
)

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


@pytest.fixture
def pays(monkeypatch):
    """A CPU on which oneDNN is the faster one, for products of any size."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(linear_module, "LARGE_PRODUCT", 0)


@needs_onednn
@pytest.mark.parametrize(
    ("hand", "kind"), [(use_onednn_for_inference, OneDnnLinear), (use_onednn_for_training, TrainedLinear)]
)
def test_every_linear_layer_is_replaced_and_no_subclass(pays, hand, kind):
    network = nn.Sequential(
        nn.Linear(4, 4), nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.ReLU())]), Owner(4, 4)
    )
    attention = nn.MultiheadAttention(4, 2)
    hand(nn.ModuleList([network, attention]))
    kinds = [type(module) for module in network.modules()]
    assert kinds.count(kind) == 2 and nn.Linear not in kinds and Owner in kinds
    assert isinstance(attention.out_proj, nn.Linear) and not isinstance(attention.out_proj, kind)


@pytest.mark.parametrize("hand", [use_onednn_for_inference, use_onednn_for_training])
@pytest.mark.parametrize(("available", "capability"), [(False, "AVX512"), (True, "AVX2")])
def test_where_it_does_not_pay_nothing_changes(monkeypatch, available, capability, hand):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: available)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    network = nn.Sequential(nn.Linear(4, 4))
    hand(network)
    assert type(network[0]) is nn.Linear


@needs_onednn
def test_a_trained_layer_keeps_its_weights_and_their_names(pays):
    network = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3, bias=False))
    before, x = dict(network.named_parameters()), torch.randn(2, 6)
    expected = network(x)
    use_onednn_for_training(network)
    after = dict(network.named_parameters())
    assert list(before) == list(after) and all(before[name] is after[name] for name in before)
    torch.testing.assert_close(network(x), expected)
    use_onednn_for_inference(network)
    assert [type(layer) for layer in network] == [OneDnnLinear, OneDnnLinear]
    torch.testing.assert_close(network(x), expected.detach())


SHAPES = {
    "rows": lambda: (torch.randn(7, 6), torch.randn(5, 6)),
    "as many inputs as outputs": lambda: (torch.randn(2, 7, 6), torch.randn(6, 6)),
    "rows that do not lie side by side": lambda: (torch.randn(6, 4, 3).permute(2, 1, 0), torch.randn(5, 6)),
    "weights that are a part of larger ones": lambda: (torch.randn(2, 7, 6), torch.randn(6, 9)[:, :6]),
    "one row": lambda: (torch.randn(1, 6), torch.randn(5, 6)),
}


@needs_onednn
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("spread", [True, False])
def test_a_product_and_its_gradients_are_those_of_pytorch(pays, monkeypatch, shape, with_bias, spread):
    torch.manual_seed(0)
    x, weight_ND = SHAPES[shape]()
    inputs = [x, weight_ND, *([torch.randn(len(weight_ND))] if with_bias else [])]

    def run() -> list[torch.Tensor]:
        leaves = [given.clone(memory_format=torch.preserve_format).requires_grad_() for given in inputs]
        # The weights as they were given, also where that is a view.
        leaves[1] = weight_ND.detach().requires_grad_()
        y = linear_module.linear(*leaves)
        # The gradient of a sum has strides of zero, that of attention lies the other way round.
        loss = y.sum() if spread else (y.mT * torch.arange(y.numel()).view(y.mT.shape)).sum()
        return [y.detach(), *torch.autograd.grad(loss, leaves)]

    by_onednn = run()
    monkeypatch.setattr(linear_module, "onednn_pays", lambda: False)
    for ours, theirs in zip(by_onednn, run(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


@needs_onednn
def test_which_products_are_given_to_onednn(pays, monkeypatch):
    given = []
    product = linear_module.onednn_product
    monkeypatch.setattr(linear_module, "onednn_product", lambda *parts: given.append(1) or product(*parts))
    x, weight_ND = torch.randn(4, 6), torch.randn(5, 6)
    linear_module.linear(x, weight_ND)
    assert len(given) == 1
    linear_module.linear(x.double(), weight_ND.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear_module.linear(x, weight_ND).dtype == torch.bfloat16
    compiled = torch.compile(linear_module.linear, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, weight_ND), x @ weight_ND.T)
    monkeypatch.setattr(linear_module, "LARGE_PRODUCT", 2 * 4 * 5 * 6 + 1)
    linear_module.linear(x, weight_ND)
    assert len(given) == 1
