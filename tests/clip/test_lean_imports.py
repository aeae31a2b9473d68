"""open_clip without the libraries that nothing here uses, and those libraries unharmed."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fsgr_model.clip.lean_imports import COMPILER, UNUSED, lean_imports

ROOT = Path(__file__).parents[2]
A_FRESH_PROCESS = """
import sys
from fsgr_model.clip.open_clip_api import open_clip
brought = [name for name in ("torch._dynamo", "sympy", "timm", "transformers") if name in sys.modules]
assert not brought, brought
from torchvision.ops.roi_align import is_compile_supported
import timm
import torch._dynamo.utils
assert is_compile_supported is not torch._dynamo.utils.is_compile_supported, "the stand-in's"
assert is_compile_supported("cpu") == torch._dynamo.utils.is_compile_supported("cpu")
assert is_compile_supported("mps") is False
"""


# A later torchvision may ask the compiler for more.
ANOTHER_FUNCTION = """
import sys
from fsgr_model.clip.lean_imports import lean_imports
with lean_imports():
    from torch._dynamo.utils import counters
assert counters is sys.modules["torch._dynamo.utils"].counters
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [A_FRESH_PROCESS, ANOTHER_FUNCTION], ids=["open_clip", "compiler"])
def test_a_fresh_process_imports_open_clip_alone_and_can_import_the_rest_later(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture
def none_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*UNUSED, COMPILER):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_what_was_imported_before_stays(monkeypatch: pytest.MonkeyPatch, none_imported: None) -> None:
    imported = {name: ModuleType(name) for name in (UNUSED[0], COMPILER)}
    for name, module in imported.items():
        monkeypatch.setitem(sys.modules, name, module)
    with lean_imports():
        assert all(sys.modules[name] is module for name, module in imported.items())
        with pytest.raises(ImportError):
            __import__(UNUSED[1])
    assert all(sys.modules[name] is module for name, module in imported.items())


def test_nothing_is_held_back_after_an_error(none_imported: None) -> None:
    with pytest.raises(RuntimeError, match="broken library"), lean_imports():
        raise RuntimeError("broken library")
    assert not {*UNUSED, COMPILER} & sys.modules.keys()
