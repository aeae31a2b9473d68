"""CUDA graphs: a call whose shapes recur is recorded once and then replayed.

A training step of twenty images launches some 1,500 small kernels, and Python needs three times as long to
launch them as the GPU needs to run them (docs/experiments/gpu.md). A replay is one launch. It runs the same
kernels with the same random numbers, so results do not change; the functions must give tensors of shapes that
depend on the shapes of their arguments alone, and must not wait for the device.

A call is recorded when its shapes occur for the second time: the last batch of an epoch is mostly not.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor, nn

Function = Callable[..., tuple[Tensor, ...]]
# Each recording keeps the memory of its intermediate results.
MOST_RECORDINGS = 12
# Of the free memory, for the intermediate results of a recording and those of the steps beside it.
USABLE = 0.4


class Replayed:
    """A function of tensors without gradients; its results are the caller's own."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self._recordings: dict[Hashable, _Recording] = {}
        self._seen: Counter[Hashable] = Counter()

    @torch.no_grad()
    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """What the function returns; replayed where the tensors are on a CUDA device and known in shape."""
        key = _key(tensors)
        if key not in self._recordings:
            self._seen[key] += 1
            if not _may_record(tensors, self._seen[key], len(self._recordings)):
                return self.function(*tensors)
            self._recordings[key] = _Recording(self.function, tensors)
        return self._recordings[key].replay(tensors)


class _Recording:
    def __init__(self, function: Function, tensors: Sequence[Tensor]) -> None:
        self._inputs = [tensor.clone() for tensor in tensors]
        self._graph = torch.cuda.CUDAGraph()
        state = torch.cuda.get_rng_state(tensors[0].device)
        with _autocast_without_cache():
            # The first run in another stream loads and chooses kernels, which a recording cannot.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                function(*self._inputs)
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(self._graph):
                self._outputs = function(*self._inputs)
        torch.cuda.set_rng_state(state, tensors[0].device)

    def replay(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        for kept, tensor in zip(self._inputs, tensors, strict=True):
            kept.copy_(tensor)
        self._graph.replay()
        return tuple(output.clone() for output in self._outputs)


class ReplayedWithGradients:
    """A function of tensors and of the weights of `module`, with the gradients of both.

    Results and gradients of a replay are overwritten by the next one of the same shapes: one backward pass
    belongs between the two. Without gradients the function is called as it is.
    """

    def __init__(self, function: Function, module: nn.Module) -> None:
        self.function, self.module = function, module
        self._recordings: dict[Hashable, Function] = {}
        self._seen: Counter[Hashable] = Counter()

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """What the function returns; replayed where the tensors are on a CUDA device and known in shape."""
        if not torch.is_grad_enabled():
            return self.function(*tensors)
        key = (*_key(tensors), self.module.training)
        if key not in self._recordings:
            self._seen[key] += 1
            if not _may_record(tensors, self._seen[key], len(self._recordings)):
                return self.function(*tensors)
            self._recordings[key] = self._record(tensors)
        return self._recordings[key](*tensors)

    def _record(self, tensors: Sequence[Tensor]) -> Function:
        samples = tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in tensors)
        state = torch.cuda.get_rng_state(tensors[0].device)
        with _autocast_without_cache():
            recorded = torch.cuda.make_graphed_callables(
                _Call(self.function, self.module), samples, allow_unused_input=True
            )
        torch.cuda.set_rng_state(state, tensors[0].device)
        return recorded  # type: ignore[return-value]


class _Call(nn.Module):
    """The function as a module, whose weights get gradients."""

    def __init__(self, function: Function, module: nn.Module) -> None:
        super().__init__()
        self.function, self.module = function, module

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self.function(*tensors)


def _key(tensors: Sequence[Tensor]) -> tuple[Hashable, ...]:
    """What a recording depends on beside the values of its inputs."""
    product = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
    return (*((tensor.shape, tensor.dtype, tensor.requires_grad) for tensor in tensors), product)


def _may_record(tensors: Sequence[Tensor], times: int, recordings: int) -> bool:
    """Whether this is the time to record, and there is memory for it."""
    device = tensors[0].device
    if device.type != "cuda" or times != 2 or recordings >= MOST_RECORDINGS:
        return False
    # What PyTorch holds without need is returned to the device when a recording asks for it.
    needless = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + needless
    peak = torch.cuda.max_memory_allocated(device) - torch.cuda.memory_allocated(device)
    return peak < USABLE * free


def _autocast_without_cache() -> torch.autocast:
    """The autocast that is in force, without kept casts of weights: a replay would read those of its day."""
    return torch.autocast(
        "cuda",
        dtype=torch.get_autocast_dtype("cuda"),
        enabled=torch.is_autocast_enabled("cuda"),
        cache_enabled=False,
    )
