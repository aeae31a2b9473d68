"""PyTorch's compiler is not imported for torchvision, and is there all the same."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
A_FRESH_PROCESS = """
import sys
from fsgr_model.clip.open_clip_api import open_clip
assert "torch._dynamo" not in sys.modules
import importlib, torch
from torchvision.ops import roi_align
promise = importlib.import_module("torchvision.ops.roi_align").is_compile_supported
assert promise("cpu") in (True, False)
assert torch._dynamo.__file__ and callable(torch._dynamo.utils.is_compile_supported)
assert torch._dynamo is sys.modules["torch._dynamo"]
print("fine")
"""
WITHOUT_TORCH = "import sys, pipeline.dataset; assert 'torch' not in sys.modules; print('fine')"


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_compiler_comes_with_its_first_use():
    assert run(A_FRESH_PROCESS) == "fine\n"


def test_the_dataset_is_made_without_pytorch():
    assert run(WITHOUT_TORCH) == "fine\n"
