"""What each part of the network is worth: the grid of parts x seeds, XE and SCST, on the unseen test split.

    python -m bench.ablation --seeds 42 43 44

Every cell is a DVC experiment (`dvc exp show` lists ablation-all-42, ...); one that is already there is not run
again. Writes docs/ablation.json, the table docs/ablation.md and the plot docs/images/ablation.png.
"""

import argparse
import time
from pathlib import Path

import torch

from bench.experiments import Scores, run_experiments, spread
from fsgr_model.artifacts import load_json, save_json, whole_file
from fsgr_model.errors import run_command

OUT = Path("docs/ablation.json")
CONTRAST = ("xe.contrast_weight=0.25",)
TAIL = ("model.adapters=true", "model.prompts=8")
MEMORY = ("model.memory=prototypes",)
ALIGNMENT = ("xe.alignment=progressive",)
# Each part alone on top of the quantiser, then all of them.
ROWS: dict[str, tuple[str, ...]] = {
    "baseline": ("model.semantics=false",),
    "quantiser": ("model.semantics=true",),
    "contrast": CONTRAST,
    "adapters-prompts": TAIL,
    "memory": MEMORY,
    "alignment": ALIGNMENT,
    "all": (*CONTRAST, *TAIL, *MEMORY, *ALIGNMENT),
}
