"""What the check says of several processes: shares, memory of each, threads, hours."""

import os
from collections import Counter

import pytest
import torch

from fsgr_model.checkup import needs
from fsgr_model.checkup.dataset import DatasetSize
from fsgr_model.checkup.pictures import Decoding
from fsgr_model.checkup.team import BY_ITSELF, Team
from fsgr_model.checkup.timing import stage_seconds
from fsgr_model.config.params import load_params
from tests.checkup.conftest import ROOT, Project, fact


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_one_process_is_as_before(project: Project) -> None:
    findings = project.check()
    assert not [line for line in findings.facts if line.startswith("processes")]
    assert "for a training step, " in fact(findings, "memory")
    assert "pictures of CLIP" not in fact(findings, "disk")


def test_shares_memory_and_disk_of_each(project: Project) -> None:
    project.values["xe"]["batch_size"], project.values["scst"]["batch_size"] = 10, 9
    project.values["clip"]["training"]["batch_size"] = 8
    findings = project.check(processes=3)
    assert findings.problems == []
    assert "3 share each batch: xe.batch_size 10 into 3 or 4, scst.batch_size 9 into 3, clip" in fact(
        findings, "processes"
    )
    assert " of each process, " in fact(findings, "memory")
    # 4 training images of 3 x 32 x 32 numbers of 2 bytes.
    assert Team(3).shared_pictures(load_params(project.params_file), images=4, pixels=32 * 32) == 24_576
    assert "pictures of CLIP's training 0.00" in fact(findings, "disk")


def test_memory_on_a_cpu_is_that_of_all(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "memory_bytes", lambda *given: 600)
    monkeypatch.setattr(needs, "device_memory", lambda device: 1_000)
    assert project.check().problems == []
    (problem,) = project.check(processes=2).problems
    assert "lower xe.batch_size" in problem


def test_batches_with_fewer_images_than_processes(project: Project) -> None:
    project.values["scst"]["batch_size"] = 3
    (problem,) = project.check(processes=5).problems
    assert problem.startswith("scst.batch_size is 3, so 2 of 5 processes would have no image")


def test_more_processes_than_gpus(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.values["runtime"] = {"processes": 3}
    gpus(monkeypatch, 2)
    (problem,) = project.check().problems
    assert problem.startswith("runtime.processes is 3, but this machine has 2 GPUs")
    # Those of several machines are not this one's matter.
    assert project.check(processes=4).problems == []


def test_auto_is_one_for_each_gpu(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2)
    assert "2 share each batch" in fact(project.check(), "processes")


def test_a_launcher_starts_how_many_it_will(project: Project) -> None:
    project.values["runtime"] = {"launcher": "srun torchrun"}
    assert "--processes N" in fact(project.check(), "processes")


def test_a_process_is_timed_with_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    before = torch.get_num_threads()
    with Team(3).threads_of_one():
        assert torch.get_num_threads() == 2
    with Team(3, gpus=3).threads_of_one():
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before


def test_hours_of_several() -> None:
    """Batches of features and validation are dealt out; a training step is that of the largest share."""
    params = load_params(ROOT / "presets" / "coco.yaml")
    size = DatasetSize({"train": 90, "val": 30, "test": 30}, 5, 9, Counter(), 750, decoding=Decoding(8, 3.2))
    step = {"features": 256.0, "labels": 25.6, "validation": 2.0, "XE": 1.0, "SCST": 10.0}
    one, two = (stage_seconds(size, params, step, team) for team in (BY_ITSELF, Team(2)))
    assert two == pytest.approx(
        one
        | {
            "features": one["features"] / 2,
            "labels": one["labels"] / 2,
            "train_xe": one["train_xe"] - 20 * 1.5,
            "train_scst": one["train_scst"] - 20 * 1.5,
        }
    )


def test_times_of_several(project: Project) -> None:
    findings = project.check(timing=True, processes=2)
    assert "MB of gradients by each of 2 processes" in fact(findings, "exchanged")
