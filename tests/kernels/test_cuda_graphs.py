"""A replayed call gives what the plain call gives, bit for bit, random numbers included."""

import pytest
import torch
from torch import Tensor, nn

from fsgr_model.kernels.cuda_graphs import Replayed, ReplayedWithGradients

CPU = torch.device("cpu")
ON_A_GPU = pytest.param(
    torch.device("cuda"),
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")],
)
DEVICES = [CPU, ON_A_GPU]
CALLS = 4


def noisy(x: Tensor) -> tuple[Tensor, ...]:
    return x + torch.rand_like(x), x.sum()


@pytest.mark.parametrize("device", DEVICES)
def test_a_replay_draws_the_same_numbers(device: torch.device) -> None:
    replayed = Replayed(noisy)
    for call in range(CALLS):
        x = torch.full((3, 5), float(call), device=device)
        torch.manual_seed(call)
        expected = [*noisy(x), torch.rand(2, device=device)]
        torch.manual_seed(call)
        found = [*replayed(x), torch.rand(2, device=device)]
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)), f"call {call}"
    assert bool(replayed._recordings) == (device.type == "cuda")


@pytest.mark.parametrize("device", DEVICES)
def test_results_belong_to_the_caller(device: torch.device) -> None:
    replayed = Replayed(lambda x: (2 * x,))
    found = [replayed(torch.full((2,), float(call), device=device))[0] for call in range(CALLS)]
    assert [x.tolist() for x in found] == [[2.0 * call] * 2 for call in range(CALLS)]


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.Dropout(0.3), nn.Linear(32, 4))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.layers(x)
        return y, y.argmax(dim=-1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_and_dropout_are_those_of_the_plain_call(
    device: torch.device, dtype: torch.dtype, training: bool
) -> None:
    """Also after the weights have changed, and for the gradient of the input."""
    torch.manual_seed(0)
    module = Layers().to(device).train(training)
    replayed = ReplayedWithGradients(module.forward, module)
    rate = 0.1
    for call in range(CALLS):
        results = []
        for function in (module.forward, replayed):
            x = torch.linspace(-1, call + 1, 48, device=device).view(3, 16).requires_grad_()
            module.zero_grad()
            torch.manual_seed(call)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                y, best = function(x)
            y.float().square().sum().backward()
            gradients = [weight.grad.clone() for weight in module.parameters() if weight.grad is not None]
            assert x.grad is not None and len(gradients) == 4
            results.append([y.detach().clone(), best.clone(), x.grad, *gradients])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True)), f"call {call}"
        with torch.no_grad():
            for weight in module.parameters():
                weight -= rate * weight.grad
    assert bool(replayed._recordings) == (device.type == "cuda")


def test_other_shapes_and_modes_are_recorded_apart() -> None:
    seen: list[tuple[int, ...]] = []
    module = Layers()
    replayed = ReplayedWithGradients(lambda x: (seen.append(tuple(x.shape)), *module(x))[1:], module)
    for rows in (1, 2, 1):
        replayed(torch.zeros(rows, 16))
    module.eval()
    replayed(torch.zeros(1, 16))
    assert seen == [(1, 16), (2, 16), (1, 16), (1, 16)]
    assert sorted(replayed._seen.values()) == [1, 1, 2]
