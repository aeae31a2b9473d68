"""Skips the random initialisation of networks whose weights come from a file: a second for ViT-B/16."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode

# A TorchFunctionMode sees these initialisers as a whole, the others as the fills that they consist of.
INITIALISERS = {init.uniform_, init.normal_, init.kaiming_uniform_}
FILLS = {torch.Tensor.uniform_, torch.Tensor.normal_}


class UnsetWeights(TorchFunctionMode):
    """Within this context weights that would be drawn at random stay uninitialised.

    They become zeros where only a fill is seen: `trunc_normal_` fills again until all values are in range.
    Use it only for networks all of whose weights are then set, with a check that none is missing.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in INITIALISERS:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func in FILLS:
            with torch.no_grad():
                return args[0].zero_()
        return func(*args, **kwargs)
