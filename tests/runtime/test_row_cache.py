"""Features in memory, on the GPU, or in their file: the same batches, and a choice that fits."""

import re
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fsgr_model.config.model_params import ModelParams
from fsgr_model.config.training_params import XeParams
from fsgr_model.runtime import row_cache
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_cache import MemoryRows, choose_place, open_rows
from fsgr_model.runtime.row_store import RowFormat, RowStore, RowWriter
from fsgr_model.training.run import Run
from pipeline.train_xe import train_xe

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
IDS = [40, 7, 123456789012, 8]
ROWS = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float16)
GIGABYTE = 10**9


@pytest.fixture
def store(tmp_path: Path) -> RowStore:
    with RowWriter(tmp_path / "train.h5", RowFormat("tokens", (3, 5), "float16"), IDS, {}) as writer:
        writer.write(IDS, ROWS)
    return RowStore(tmp_path / "train.h5", {})


@pytest.mark.parametrize("place", ["ram", "disk"])
def test_rows_are_the_same_from_every_place(store: RowStore, place: row_cache.Place) -> None:
    found = open_rows(store, place, CPU).tensors([8, 40, 8])
    assert found.dtype == torch.float16
    assert found.numpy().tobytes() == ROWS[[3, 0, 3]].tobytes()


def test_rows_are_brought_in_pieces(store: RowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "ROWS_A_COPY", 3)
    assert MemoryRows(store, CPU).rows.numpy().tobytes() == ROWS.tobytes()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("place", ["gpu", "ram", "disk"])
def test_rows_are_the_same_beside_a_gpu(store: RowStore, place: row_cache.Place) -> None:
    found = open_rows(store, place, CUDA).tensors([8, 40, 8])
    assert found.is_cuda == (place == "gpu") and found.is_pinned() == (place != "gpu")
    assert found.cpu().numpy().tobytes() == ROWS[[3, 0, 3]].tobytes()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 GB of memory and a GPU with 20 GB, free."""
    free = namedtuple("free", "available")(10 * GIGABYTE)
    monkeypatch.setattr(row_cache.psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (20 * GIGABYTE, 24 * GIGABYTE))


@pytest.mark.parametrize(
    ("needed", "step", "device", "place"),
    [
        (8, 10, CUDA, "gpu"),
        (8, 12, CUDA, "disk"),
        (4, 16, CUDA, "ram"),
        (40, 0, CUDA, "disk"),
        (4, 1, CPU, "ram"),
        (4, 4, CPU, "disk"),
    ],
)
def test_the_fastest_place_with_room_is_chosen(
    machine: None, needed: int, step: int, device: torch.device, place: str
) -> None:
    assert choose_place("auto", needed=needed * GIGABYTE, step=step * GIGABYTE, device=device) == place


def test_a_place_that_is_asked_for_is_used_or_refused(machine: None) -> None:
    assert choose_place("disk", needed=4 * GIGABYTE, step=0, device=CUDA) == "disk"
    assert choose_place("ram", needed=4 * GIGABYTE, step=0, device=CUDA) == "ram"
    with pytest.raises(UserError, match=r"runtime\.cache is gpu, but this run is on cpu"):
        choose_place("gpu", needed=1, step=0, device=CPU)
    with pytest.raises(UserError, match=r"gpu, but the features take 37\.00 GB, .* 13\.50 GB"):
        choose_place("gpu", needed=37 * GIGABYTE, step=5 * GIGABYTE, device=CUDA)
    with pytest.raises(UserError, match=r"ram, but the features take 6\.00 GB, .* 5\.00 GB"):
        choose_place("ram", needed=6 * GIGABYTE, step=0, device=CUDA)


def test_training_comes_to_the_same_weights_from_every_place(
    run_in: Callable[[str], Run],
    model_params: ModelParams,
    xe_params: XeParams,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And says beforehand what a step needs, and after each epoch how long it waited."""
    weights = []
    short = xe_params.model_copy(update={"epochs": 2})
    for place in ("ram", "disk"):
        run = replace(run_in(place), cache=place)
        train_xe(run, 1e-3, model_params, short)
        weights.append((run.out / "model.safetensors").read_bytes())
        said = capsys.readouterr().out
        assert f"runtime.cache: {place}" in said
        assert re.search(r"XE needs about \S+ GB at 5 images per step; this machine has \S+ GB", said)
        assert re.search(r"XE epoch 2/2: waited \d+\.\d% of \d+\.\d s for features", said)
    assert weights[0] == weights[1]
