"""Networks whose weights come from a file need no random ones first: for ViT-B/16 they take half a second."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode

# Some of torch's initialisers reach a mode as a whole, the others as the fill that they end in.
RANDOM = {
    torch.Tensor.uniform_,
    torch.Tensor.normal_,
    init.uniform_,
    init.normal_,
    init.kaiming_uniform_,
    init.kaiming_normal_,
    init.xavier_uniform_,
    init.xavier_normal_,
}


class ZeroWeights(TorchFunctionMode):
    """Within this context weights that would be drawn at random are zeros.

    Only for networks all of whose weights are then loaded, with a check that none is missing.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func not in RANDOM:
            return func(*args, **kwargs)
        weight = kwargs["tensor"] if "tensor" in kwargs else args[0]
        with torch.no_grad():
            return weight.zero_()
