"""A clone on a machine with another CPU: its weights differ from the committed lock, and all commands go on.

The other CPU is this one, kept from using its newer instructions: PyTorch then adds in another order. Two
people who share git but no cache are in the same place.
"""

import re
import subprocess
from collections.abc import Iterator

import pytest

from bench.dvc_trials import TINY, repository
from bench.scratch import Scratch

SMALL = TINY | {"xe.epochs": 2}
OLDER_CPU = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
}
# Its output differs from the lock while what it is made from does not: DVC then asks no cache.
AGAIN = {"clip"}
# Its outputs are kept by git, so they are in no cache.
UNCACHED = {"evaluate"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    """A clone of a finished project, which has run the pipeline once more on the other CPU."""
    folder = tmp_path_factory.mktemp("machines")
    first = repository(folder / "first", SMALL)
    first.run("dvc", "repro")
    first.run("git", "add", "--all")
    first.run("git", "commit", "--quiet", "-m", "results")
    first.run("git", "clone", "--quiet", str(folder / "first"), str(folder / "clone"))
    other = Scratch(folder / "clone", SMALL, first.environment | OLDER_CPU)
    done = other.run("dvc", "repro")
    assert "dvc.lock, metrics/scst.json, metrics/xe.json" in done.stdout
    assert "changed, as expected" in done.stdout
    changed = other.run("git", "diff", "--name-only").stdout.split()
    assert "dvc.lock" in changed, "the other CPU must give other weights, or nothing is tested"
    return other


@pytest.fixture
def lock_back(clone: Scratch) -> Iterator[Scratch]:
    clone.run("git", "checkout", "--quiet", ".")
    yield clone
    clone.run("git", "checkout", "--quiet", ".")


def stages_run(done: subprocess.CompletedProcess[str]) -> set[str]:
    return set(re.findall(r"Running stage '(\w+)'", done.stdout))


@pytest.mark.slow
def test_repro(lock_back: Scratch) -> None:
    assert stages_run(lock_back.run("dvc", "repro")) <= AGAIN | UNCACHED
    assert "up to date" in lock_back.run("dvc", "repro").stdout


@pytest.mark.nightly
@pytest.mark.parametrize("place", [["--temp"], []], ids=["temp", "workspace"])
def test_an_experiment(lock_back: Scratch, place: list[str]) -> None:
    done = lock_back.run("dvc", "exp", "run", *place, "-S", f"decode.beam_size={1 + len(place)}")
    assert stages_run(done) == AGAIN | UNCACHED | {"captions"}


@pytest.mark.slow
def test_an_experiment_in_the_queue(lock_back: Scratch) -> None:
    lock_back.run("dvc", "exp", "run", "--queue", "-S", "decode.beam_size=3")
    done = lock_back.run("dvc", "exp", "run", "--run-all")
    assert stages_run(done) == AGAIN | UNCACHED | {"captions"}
    assert lock_back.run("dvc", "queue", "status").stdout.count("Success") == 1
