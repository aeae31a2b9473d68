"""CUDA graphs: a call is recorded for each shape of its arguments, and then replayed.

A training step of twenty images launches some 1,500 small kernels, and Python needs three times as long to
launch them as the GPU needs to run them (docs/experiments/gpu.md). A replay is one launch. It runs the same
kernels on the same random numbers as the function; the function must return tensors of shapes that depend on
the shapes of its arguments alone, and must not wait for the device.

A call is recorded when its shapes first occur, so whether a run was interrupted makes no difference. On other
devices the function is called as it is.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Each recording keeps its results, and a loss the gradients of all weights.
MOST_RECORDINGS = 16


class Replayed:
    """A function of tensors without gradients; its results are the caller's own."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self._recordings: dict[Hashable, _Recording] = {}

    @torch.no_grad()
    def __call__(self, *tensors: Tensor) -> Tensor:
        """What the function returns."""
        key = _key(tensors)
        if key not in self._recordings:
            if not _may_record(tensors, len(self._recordings)):
                return self.function(*tensors)
            self._recordings[key] = _Recording(lambda *inputs: [self.function(*inputs)], tensors)
        return self._recordings[key].replay(tensors)[0].clone()


class ReplayedLoss:
    """A scalar loss of tensors and of the weights of `module`; its gradients come with it, for these weights.

    fp16 is not replayed: its gradients need the scale of the loss, which is applied after it. No tensor may
    hold an earlier graph of these weights while a recording is made.
    """

    def __init__(self, function: Callable[..., Tensor], module: nn.Module) -> None:
        self.function, self.module = function, module
        self.weights = [weight for weight in module.parameters() if weight.requires_grad]
        self._recordings: dict[Hashable, _Recording] = {}

    def __call__(self, *tensors: Tensor) -> Tensor:
        """What the function returns."""
        key = (*_key(tensors), self.module.training)
        if key not in self._recordings:
            if _products() == torch.float16 or not _may_record(tensors, len(self._recordings)):
                return self.function(*tensors)
            self._recordings[key] = _Recording(self._loss_and_gradients, tensors)
        return _ReplayedLoss.apply(self._recordings[key], tensors, *self.weights)

    def _loss_and_gradients(self, *tensors: Tensor) -> list[Tensor | None]:
        loss = self.function(*tensors)
        return [loss.detach(), *torch.autograd.grad(loss, self.weights, allow_unused=True)]


class _ReplayedLoss(torch.autograd.Function):
    """The loss of a replay, whose gradients are known before anybody asks for them."""

    @staticmethod
    def forward(ctx: Any, recording: "_Recording", tensors: Sequence[Tensor], *weights: Tensor) -> Tensor:
        loss, *ctx.gradients = recording.replay(tensors)
        assert loss is not None
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *of_loss: Tensor) -> tuple[Tensor | None, ...]:
        known = [gradient for gradient in ctx.gradients if gradient is not None]
        scaled = iter(torch._foreach_mul(known, of_loss[0]))
        return (None, None, *(None if gradient is None else next(scaled) for gradient in ctx.gradients))


class _Recording:
    """One recording: copies of its arguments, which a replay reads, and its results, which it overwrites."""

    def __init__(self, function: Callable[..., list[Any]], tensors: Sequence[Tensor]) -> None:
        self._inputs = [tensor.clone() for tensor in tensors]
        self._graph = torch.cuda.CUDAGraph()
        random_state = torch.cuda.get_rng_state(tensors[0].device)
        with _autocast_without_cache():
            # The first run, in another stream, loads and chooses kernels, which a recording cannot.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                function(*self._inputs)
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(self._graph):
                self._outputs = function(*self._inputs)
        torch.cuda.set_rng_state(random_state, tensors[0].device)

    def replay(self, tensors: Sequence[Tensor]) -> list[Any]:
        for kept, tensor in zip(self._inputs, tensors, strict=True):
            kept.copy_(tensor)
        self._graph.replay()
        return self._outputs


def _key(tensors: Sequence[Tensor]) -> tuple[Hashable, ...]:
    """What a recording depends on beside the values of its arguments."""
    return (*((tensor.shape, tensor.dtype) for tensor in tensors), _products())


def _products() -> torch.dtype | None:
    return torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None


def _may_record(tensors: Sequence[Tensor], recordings: int) -> bool:
    return tensors[0].is_cuda and recordings < MOST_RECORDINGS


def _autocast_without_cache() -> torch.autocast:
    """The autocast that is in force, without kept casts of weights: a replay would read those of its day."""
    return torch.autocast(
        "cuda",
        dtype=torch.get_autocast_dtype("cuda"),
        enabled=torch.is_autocast_enabled("cuda"),
        cache_enabled=False,
    )
