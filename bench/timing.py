"""Times pieces of work in turns, so that other work on the machine affects all of them alike."""

import contextlib
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bench.limits import elapsed

Work = Callable[[], object]


def in_turns(works: Mapping[str, Work], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each piece of work over `rounds`, in each of which all are done once."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(elapsed(work, device))
    return {name: statistics.median(tries) for name, tries in seconds.items()}


class ProductCounter(TorchDispatchMode):
    """Adds up the operations of matrix products and convolutions, gradients included.

    `torch.utils.flop_counter.FlopCounterMode` does so too, but fails on views of weights without gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.flops += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=result)
        elif func.overloadpacket is torch.ops.mkldnn._linear_pointwise:
            x, weight_ND, *_ = args
            self.flops += 2 * x.numel() * len(weight_ND)
        return result


def matmul_flops(work: Work) -> int:
    """Floating-point operations of the matrix products in a piece of work.

    PyTorch has no formula for the CPU's fused attention, so attention is counted as the plain one does it.
    """
    with sdpa_kernel(SDPBackend.MATH), ProductCounter() as counter:
        work()
    return counter.flops


def precision(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[None]:
    """float32, or bf16 autocast, which is how training runs on a GPU."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)
