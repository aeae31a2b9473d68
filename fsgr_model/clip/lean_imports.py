"""Imports open_clip without the modules that nothing here uses; this saves two seconds per command.

- timm and transformers are for towers of other kinds, which `loading.build_model` refuses. open_clip works
  without them where they are not installed.
- PyTorch's compiler: torchvision imports one function of it, for box operators.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

UNUSED = ("timm", "transformers")
COMPILER = "torch._dynamo.utils"


@contextmanager
def lean_imports() -> Iterator[None]:
    """Within this context the modules above cannot be imported, or only when they are really used.

    Modules imported before stay as they are, and after the context everything can be imported again.
    """
    compiler = ModuleType(COMPILER)
    vars(compiler).update(is_compile_supported=_is_compile_supported, __getattr__=_of_real_compiler)
    held = {name: None for name in UNUSED} | {COMPILER: compiler}
    held = {name: module for name, module in held.items() if name not in sys.modules}
    modules: dict[str, Any] = sys.modules
    modules.update(held)
    try:
        yield
    finally:
        for name, module in held.items():
            if modules.get(name) is module:
                modules.pop(name, None)


def _is_compile_supported(device: Any) -> bool:
    """The compiler's own function, looked up when it is called."""
    return importlib.import_module(COMPILER).is_compile_supported(device)


def _of_real_compiler(name: str) -> Any:
    """Any other attribute that a version of torchvision asks for comes from the compiler itself.

    Attributes that Python's import asks of every module, such as `__path__`, are excepted.
    """
    if name.startswith("__"):
        raise AttributeError(name)
    sys.modules.pop(COMPILER, None)
    return getattr(importlib.import_module(COMPILER), name)
