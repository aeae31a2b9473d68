"""A replay is a function of its arguments, the weights and the seed, and gives what the plain call gives."""

import pytest
import torch
from torch import Tensor, nn

from fsgr_model.kernels.cuda_graphs import Replayed, ReplayedLoss

CPU = torch.device("cpu")
ON_A_GPU = pytest.param(
    torch.device("cuda"),
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")],
)
DEVICES = [CPU, ON_A_GPU]
CALLS = 4


def noisy(x: Tensor) -> Tensor:
    return x + torch.rand_like(x) + torch.empty_like(x).exponential_()


@pytest.mark.parametrize("device", DEVICES)
def test_a_replay_draws_the_same_numbers(device: torch.device) -> None:
    replayed = Replayed(noisy)
    for call in range(CALLS):
        x = torch.full((300, 50), float(call), device=device)
        torch.manual_seed(call)
        expected = [noisy(x), torch.rand(2, device=device)]
        torch.manual_seed(call)
        found = [replayed(x), torch.rand(2, device=device)]
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)), f"call {call}"
    assert len(replayed._recordings) == (device.type == "cuda")


@pytest.mark.parametrize("device", DEVICES)
def test_results_belong_to_the_caller(device: torch.device) -> None:
    replayed = Replayed(lambda x: 2 * x)
    found = [replayed(torch.full((2,), float(call), device=device)) for call in range(CALLS)]
    assert [x.tolist() for x in found] == [[2.0 * call] * 2 for call in range(CALLS)]


class Layers(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.Dropout(dropout), nn.Linear(32, 4))
        self.unused = nn.Linear(2, 2)
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.frozen * self.layers(x)).float().square().mean()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradients_are_those_of_the_plain_call(device: torch.device, dtype: torch.dtype) -> None:
    """Also after the weights have changed, and where the loss is scaled afterwards."""
    torch.manual_seed(0)
    module = Layers(0.0).to(device)
    replayed = ReplayedLoss(module.forward, module)
    for call in range(CALLS):
        results = []
        for function in (module.forward, replayed):
            x = torch.linspace(-1, call + 1, 48, device=device).view(3, 16)
            module.zero_grad()
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                loss = function(x)
            (4 * loss).backward()
            gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
            results.append([loss.detach(), *gradients])
            del loss
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert len(results[0]) == 5 and module.unused.weight.grad is None
        with torch.no_grad():
            for weight in module.layers.parameters():
                weight -= 0.1 * weight.grad
    assert len(replayed._recordings) == (device.type == "cuda")


@pytest.mark.parametrize("device", DEVICES)
def test_a_new_recording_gives_the_same_bits(device: torch.device) -> None:
    """A run that goes on records anew; dropout then falls on the same numbers."""
    torch.manual_seed(0)
    module, x = Layers(0.5).to(device), torch.linspace(-1, 1, 48, device=device).view(3, 16)
    losses = []
    for _ in range(2):
        replayed = ReplayedLoss(module.forward, module)
        for call in range(3):
            torch.manual_seed(call)
            losses.append(replayed(x).item())
    assert losses[:3] == losses[3:] and len(set(losses)) == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_shapes_precisions_and_modes_are_recorded_apart() -> None:
    module = Layers(0.5).cuda()
    replayed = ReplayedLoss(module.forward, module)
    for rows in (1, 2, 1):
        replayed(torch.zeros(rows, 16, device="cuda"))
    module.eval()
    replayed(torch.zeros(1, 16, device="cuda"))
    with torch.autocast("cuda", dtype=torch.bfloat16):
        replayed(torch.zeros(1, 16, device="cuda"))
    with torch.autocast("cuda", dtype=torch.float16):
        replayed(torch.zeros(1, 16, device="cuda"))
    assert len(replayed._recordings) == 4, "fp16 is not recorded"
