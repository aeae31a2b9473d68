"""PyTorch's compiler, left out until it is used: it takes as long to import as the rest of PyTorch.

torchvision's RoI operators import one function of it, which says whether it knows a device. Nothing here uses
these operators, so the function is promised, and the compiler is imported by the first call.
"""

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

PACKAGE = "torch._dynamo"
PROMISED = (PACKAGE, f"{PACKAGE}.utils")


class _Promise(MetaPathFinder, Loader):
    """Finds the compiler's modules as empty ones, each name in which is a function to be imported later."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None for what others find."""
        return ModuleSpec(fullname, self, is_package=True) if fullname in PROMISED else None

    def exec_module(self, module: ModuleType) -> None:
        """Give the module a promise for every name that is asked for."""
        name = module.__name__
        module.__getattr__ = lambda function: _promised(name, function)  # type: ignore[method-assign]


def _promised(module: str, function: str) -> Callable[..., Any]:
    """A function that imports the real one when it is called.

    Raises:
        AttributeError: Python asks for one of its own names, which a module need not have.
    """
    if function.startswith("__"):
        raise AttributeError(function)

    def call(*arguments: Any, **named: Any) -> Any:
        _withdraw()
        return getattr(importlib.import_module(module), function)(*arguments, **named)

    return call


def _withdraw() -> None:
    """Take the promised modules out again, so that whoever imports them gets the real ones."""
    for name in PROMISED:
        if isinstance(getattr(sys.modules.get(name), "__loader__", None), _Promise):
            del sys.modules[name]
    if isinstance(getattr(vars(torch).get("_dynamo"), "__loader__", None), _Promise):
        del torch._dynamo


@contextmanager
def compiler_later() -> Iterator[None]:
    """Within this block an import of the compiler gives promises; once imported it stays what it is."""
    if PACKAGE in sys.modules:
        yield
        return
    finder = _Promise()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        _withdraw()
