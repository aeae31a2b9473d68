"""A launcher starts agents of torchrun as Slurm would on two machines; here both are on loopback."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from tests.pipeline.test_process_faults import folder_of
from tests.worlds.project import ROOT

# Stands in for Slurm's: it runs the command once for each of two nodes, and fails as the worst of them.
SRUN = """#!/bin/sh
SLURM_NODEID=0 "$@" & first=$!
SLURM_NODEID=1 "$@" & second=$!
trap 'kill -TERM $first $second' TERM
wait $first; code=$?
wait $second || code=$?
exit $code
"""
EPOCHS = 2


def train(project: Path, folder: Path, launcher: str) -> str:
    """What the stage said, with this launcher in its parameters."""
    folder_of(project, folder, 1)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["xe"]["epochs"] = EPOCHS
    params["runtime"]["launcher"] = launcher
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    tools = folder / "bin"
    tools.mkdir()
    (tools / "srun").write_text(SRUN)
    (tools / "srun").chmod(0o755)
    found = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.train_xe"],
        cwd=folder,
        env={**os.environ, **found},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
def test_two_agents_train_the_network_of_one(project, tmp_path):
    torchrun = f"{sys.executable} -m torch.distributed.run --nproc-per-node 1"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        endpoint = f"localhost:{free.getsockname()[1]}"
    train(project, tmp_path / "one", f"{torchrun} --standalone")
    said = train(
        project,
        tmp_path / "two",
        f"srun {torchrun} --nnodes 2 --rdzv-backend c10d --rdzv-endpoint {endpoint} --local-addr localhost",
    )
    assert re.search(r"^2 processes work together: process 0 \(.*; process 1 \(", said, re.M), said
    one, two = (tmp_path / name / "data" / "models" / "xe" for name in ("one", "two"))
    weights, weights_too = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert weights.keys() == weights_too.keys()
    for name, weight in weights.items():
        # A softmax does not depend on the bias of its keys: its gradient is rounding, which Adam scales up.
        if not name.endswith("attention.key.bias"):
            assert np.linalg.norm(weight - weights_too[name]) <= 1e-4 * np.linalg.norm(weight), name
