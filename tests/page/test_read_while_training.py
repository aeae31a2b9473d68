"""While a stage runs, its curve is read by DVC, the page and TensorBoard at once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("tensorboard", reason="the extra `tensorboard`")

from fsgr_model.page.curves import curves_of
from fsgr_model.page.project import Project

# A stage that tells two epochs as training does, then waits until it has been looked at.
STAGE = """
import time
from pathlib import Path
from fsgr_model.runtime.run_reports import reports
from fsgr_model.training.run import write_curve

history = [{"epoch": 0, "val_CIDEr": 0.5}, {"epoch": 1, "val_CIDEr": 1.25}]
with reports(["tensorboard"], "train_xe-abc") as others:
    write_curve(Path("plots/xe.tsv"), history)
    others.tell(history)
    Path("told").touch()
    while not Path("looked").exists():
        time.sleep(0.05)
"""
PIPELINE = """
stages:
  train_xe:
    cmd: '"{python}" stage.py'
    outs: [plots/xe.tsv]
plots:
  - validation CIDEr-D:
      x: epoch
      y: {{plots/xe.tsv: val_CIDEr}}
"""


def dvc(root: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_a_curve_is_read_by_all_while_its_stage_runs(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "dvc.yaml").write_text(PIPELINE.format(python=sys.executable))
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    dvc(tmp_path, "init", "-q")
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "DVC_NO_ANALYTICS": "1"}
    with subprocess.Popen([sys.executable, "-m", "dvc", "repro"], cwd=tmp_path, env=environment) as running:
        try:
            while not (tmp_path / "told").exists():
                assert running.poll() is None
                time.sleep(0.05)
            shown = json.loads(dvc(tmp_path, "plots", "show", "--json"))
            (plot,) = shown["data"]["validation CIDEr-D"]
            page = curves_of(Project(tmp_path), "workspace")["xe"]
            events = EventAccumulator(str(tmp_path / "runs" / "train_xe-abc"))
            events.Reload()
            assert running.poll() is None, "it is still under way"
        finally:
            (tmp_path / "looked").touch()
            assert running.wait(60) == 0
    found = [[float(each["val_CIDEr"]) for each in plot["content"]["data"]["values"]], page["val_CIDEr"]]
    found.append([each.value for each in events.Scalars("val_CIDEr")])
    assert found == 3 * [[0.5, 1.25]]
