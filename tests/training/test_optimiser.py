"""One optimiser for all: Adam is PyTorch's, Muon takes the layers' matrices, a saved one goes on."""

import math

import pytest
import torch
from torch import nn

from fsgr_model.training.muon import Muon, orthogonal
from fsgr_model.training.optimiser import Optimiser


class Small(nn.Module):
    """A matrix within `layers`, one outside, an embedding and gains."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(7, 6)
        self.layers = nn.ModuleList([nn.Linear(6, 6), nn.LayerNorm(6)])
        self.output = nn.Linear(6, 7, bias=False)

    def loss(self, word: torch.Tensor) -> torch.Tensor:
        x = self.layers[1](self.layers[0](self.embedding(word)))
        return nn.functional.cross_entropy(self.output(x), word)


WORDS = torch.tensor([0, 3, 5, 6])


def steps(model: Small, optimiser: Optimiser, count: int, rate: float = 1e-2) -> None:
    for _ in range(count):
        optimiser.set_rate(rate)
        model.loss(WORDS).backward()
        optimiser.step()


def test_adam_is_pytorchs():
    ours, theirs = Small(), Small()
    steps(ours, Optimiser(ours, "adam", 1e-2, weight_decay=0.0), 5)
    reference = torch.optim.AdamW(theirs.parameters(), lr=1e-2, betas=(0.9, 0.98), weight_decay=0.0)
    for _ in range(5):
        reference.zero_grad()
        theirs.loss(WORDS).backward()
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("max_norm", [0.1, 100.0])
@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_gradients_are_clipped_as_pytorch_does(kind, max_norm):
    ours, theirs = Small(), Small()
    optimiser = Optimiser(ours, kind, 1e-2, weight_decay=0.0)
    for model in (ours, theirs):
        model.loss(WORDS).backward()
    norm = optimiser.gradient_norm()
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(theirs.parameters(), max_norm))
    assert 0.1 < norm < 100
    optimiser.clip_gradients(norm.item(), max_norm=max_norm)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_muon_moves_a_layers_matrix_by_an_orthogonal_step_and_leaves_the_rest_to_adam():
    adam, muon = Small(), Small()
    before = muon.layers[0].weight.detach().clone()
    steps(adam, Optimiser(adam, "adam", 1e-2, weight_decay=0.0), 1)
    steps(muon, Optimiser(muon, "muon", 1e-2, weight_decay=0.0), 1)
    for name in ("embedding.weight", "output.weight", "layers.1.weight", "layers.0.bias"):
        torch.testing.assert_close(muon.get_parameter(name), adam.get_parameter(name))
    moved = torch.linalg.svdvals(muon.layers[0].weight.detach() - before)
    assert moved.max() / moved[:-2].min() < 2.0
    assert not torch.allclose(muon.layers[0].weight, adam.layers[0].weight)


NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("columns", [12, 20, 25, 48])
@pytest.mark.parametrize(
    ("device", "weakest"),
    [("cpu", 1.0), ("cpu", 1e-5), pytest.param("cuda", 1.0, marks=[pytest.mark.gpu, NO_GPU])],
)
def test_matrices_are_made_orthogonal_together_as_each_alone(device, weakest, columns):
    """Newton and Schulz by hand, a matrix at a time; only a GPU rounds to bfloat16.

    `weakest`: the scale of the last row, the first one's being 1.
    """
    torch.manual_seed(0)
    matrix_NRC = torch.randn(5, 12, columns) * torch.logspace(0, math.log10(weakest), 12)[:, None]
    for matrix_RC, found_RC in zip(matrix_NRC, orthogonal(matrix_NRC.to(device)).cpu(), strict=True):
        x = matrix_RC.double() / matrix_RC.double().norm()
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
        error = (found_RC - x).norm() / x.norm()
        bound = 4e-2 if device == "cuda" else 1e-5 if weakest == 1.0 else 1e-4
        assert error < bound


def test_muon_is_pytorchs():
    """Tall, wide and square matrices, some of one shape; to bfloat16's rounding over five steps."""
    torch.manual_seed(1)
    shapes = [(12, 12), (24, 12), (12, 24), (12, 12), (7, 30)]
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(weight.detach().clone()) for weight in ours]
    start = [weight.detach().clone() for weight in ours]
    reference = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    optimiser = Muon([{"params": ours}], lr=1e-2, weight_decay=0.1)
    for _ in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape)
            other.grad = mine.grad.clone()
        optimiser.step()
        reference.step()
    for mine, other, before in zip(ours, theirs, start, strict=True):
        assert (mine - other).norm() < 2e-2 * (other - before).norm()


def test_only_matrices_decay():
    model = Small()
    with torch.no_grad():
        model.layers[1].weight.fill_(2.0)
    optimiser = Optimiser(model, "muon", 1e-2, weight_decay=0.5)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimiser.set_rate(1e-2)
    optimiser.step()
    for name, weight in model.named_parameters():
        assert (weight.norm() < before[name].norm()) == (weight.ndim == 2), name


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_a_saved_state_goes_on_exactly(kind):
    whole, first = Small(), Small()
    steps(whole, Optimiser(whole, kind, 1e-2, weight_decay=0.1), 6)
    optimiser = Optimiser(first, kind, 1e-2, weight_decay=0.1)
    steps(first, optimiser, 3)
    saved = {name: value.clone() for name, value in optimiser.tensors().items()}
    second = Small()
    second.load_state_dict(first.state_dict())
    going_on = Optimiser(second, kind, 1e-2, weight_decay=0.1)
    going_on.load(saved)
    steps(second, going_on, 3)
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


class WithTail(Small):
    """`Small` behind a trained matrix and vector in a `tail`."""

    def __init__(self) -> None:
        super().__init__()
        self.tail = nn.Linear(6, 6)

    def loss(self, word: torch.Tensor) -> torch.Tensor:
        x = self.layers[1](self.layers[0](self.tail(self.embedding(word))))
        return nn.functional.cross_entropy(self.output(x), word)


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_the_tail_learns_at_its_share_of_the_rate(kind):
    """One step of Adam from rest moves every weight by the rate, whatever its gradient."""
    whole, slow = WithTail(), WithTail()
    before = {name: weight.detach().clone() for name, weight in whole.named_parameters()}
    steps(whole, Optimiser(whole, kind, 1e-2, weight_decay=0.0), 1)
    steps(slow, Optimiser(slow, kind, 1e-2, weight_decay=0.0, visual_factor=0.1), 1)
    for name, start in before.items():
        moved = whole.get_parameter(name) - start
        factor = 0.1 if name.startswith("tail.") else 1.0
        torch.testing.assert_close(slow.get_parameter(name) - start, factor * moved, atol=1e-6, rtol=1e-3)
    moved = whole.tail.weight - before["tail.weight"]
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 1e-2), atol=1e-5, rtol=1e-2)
