"""The only door to open_clip: `from fsgr_model.clip.open_clip_api import open_clip`."""

import importlib
from typing import Any

from fsgr_model.clip.torchvision_repair import import_torchvision

import_torchvision()
open_clip: Any = importlib.import_module("open_clip")
