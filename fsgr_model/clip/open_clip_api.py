"""The only door to open_clip: `from fsgr_model.clip.open_clip_api import open_clip`."""

import importlib
import os
from typing import Any

from fsgr_model.clip.lean_imports import lean_imports
from fsgr_model.clip.torchvision_repair import import_torchvision

# Weights come by plain HTTP, which resumes an interrupted download. The hub's Xet starts from the beginning.
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
with lean_imports():
    import_torchvision()
    open_clip: Any = importlib.import_module("open_clip")
