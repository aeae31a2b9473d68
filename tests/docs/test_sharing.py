"""The commands of docs/howto/sharing.md, run as printed, with a folder as remote and a bare repository."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.dvc_trials import TINY, repository
from bench.scratch import Scratch
from tests.docs.test_recipes import recipe
from tests.listings.stage_deps import stages

PAGE = "sharing.md"
IMAGE = "data/dataset/images/000031.png"
# What the page's reader has and this test has not; {} is the test's folder.
INSTEAD = {
    "/mnt/storage/captioning": "{}/storage",
    "https://example.org/me/captioning.git": "{}/server.git",
    " photo.jpg": f" {IMAGE}",
    # A beam of 8 takes longer than one of 2.
    "decode.beam_size=8": "decode.beam_size=2",
}
# make would install an environment; its command is tested below.
LEFT_OUT = ("make release-check",)


class Machine:
    """A folder with a clone or none yet, in which commands run as a shell has them."""

    def __init__(self, scratch: Scratch, folder: Path) -> None:
        self.scratch, self.folder = scratch, folder

    def run(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        for said, done in INSTEAD.items():
            command = command.replace(said, done.format(self.scratch.folder.parent))
        ended = subprocess.run(
            ["bash", "-ec", command],
            cwd=self.folder,
            env=self.scratch.environment | {"PYTHONPATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or ended.returncode == 0, (
            f"{command}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
        )
        return ended

    def follow(self, heading: str) -> None:
        """The commands below a heading of the page."""
        for block in recipe(f"{PAGE}#{heading}"):
            self.run(block.text)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("sharing")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def first(place: Path) -> Machine:
    """A finished project whose git repository has a server."""
    scratch = repository(place / "first", TINY | {"xe.epochs": 2})
    scratch.run("dvc", "repro")
    scratch.run("git", "add", "--all")
    scratch.run("git", "commit", "--quiet", "-m", "results")
    scratch.run("git", "branch", "--move", "main")
    scratch.run("git", "init", "--quiet", "--bare", "--initial-branch", "main", str(place / "server.git"))
    scratch.run("git", "remote", "add", "origin", str(place / "server.git"))
    machine = Machine(scratch, scratch.folder)
    machine.follow("Push the data")
    return machine


@pytest.fixture
def second(first: Machine, tmp_path: Path) -> Machine:
    """A clone without any data."""
    first.run(f"git clone --quiet https://example.org/me/captioning.git {tmp_path}/captioning")
    return Machine(first.scratch, tmp_path / "captioning")


def stages_run(done: subprocess.CompletedProcess[str]) -> set[str]:
    return set(re.findall(r"Running stage '(\w+)'", done.stdout))


def blocks(heading: str) -> list[str]:
    return [block.text for block in recipe(f"{PAGE}#{heading}")]


def test_the_page_has_what_is_replaced_and_left_out() -> None:
    text = "".join(block.text for block in recipe(PAGE))
    assert all(said in text for said in (*INSTEAD, *LEFT_OUT))


def test_artifacts_are_outputs_of_stages() -> None:
    import yaml

    page = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))
    outputs = [out for stage in stages(Path("dvc.yaml").read_text()).values() for out in stage["outs"]]
    assert set(page["artifacts"]) == {"captioner", "captioner-xe"}
    assert all(artifact["path"] in outputs for artifact in page["artifacts"].values())
    assert all(artifact["type"] == "model" and artifact["desc"] for artifact in page["artifacts"].values())


@pytest.mark.nightly
def test_a_clone_gets_what_captioning_needs(first: Machine, tmp_path: Path) -> None:
    clone, *_ = blocks("Use them on another machine")
    picture = tmp_path / "photo.png"
    shutil.copyfile(first.folder / IMAGE, picture)
    done = Machine(first.scratch, tmp_path).run(clone.replace("photo.jpg", str(picture)))
    alone = first.run(f"python -m fsgr_model caption {picture}")
    assert done.stdout.splitlines()[-1] == alone.stdout.splitlines()[-1]
    data = tmp_path / "captioning" / "data"
    assert not (data / "features").exists() and not (data / "dataset").exists()


@pytest.mark.nightly
def test_a_change_runs_its_stages_on_what_they_need(second: Machine) -> None:
    _, command = blocks("Use them on another machine")
    assert stages_run(second.run(command)) == set(), "nothing has changed"
    assert not (second.folder / "data" / "models" / "xe").exists(), "so nothing is fetched"
    params = second.folder / "params.yaml"
    params.write_text(params.read_text().replace("beam_size: 5", "beam_size: 2"))
    assert stages_run(second.run(command)) == {"captions", "evaluate"}
    assert not (second.folder / "data" / "dataset" / "pretraining").exists(), "no stage that ran reads it"
    assert not (second.folder / "data" / "word_lists").joinpath("none").exists()


@pytest.mark.nightly
def test_an_experiment_travels(first: Machine, second: Machine) -> None:
    run, apply = blocks("Share an experiment")
    first.run(run)
    second.run(apply)
    assert "beam_size: 2" in (second.folder / "params.yaml").read_text()
    captions = second.folder / "data" / "captions" / "scst.json"
    second.run("dvc pull data/captions")
    assert captions.is_file()


@pytest.mark.nightly
def test_a_version_of_the_model_travels(first: Machine, tmp_path: Path) -> None:
    register, get = blocks("Number the versions of a model")
    first.run(register)
    assert "v1.0.0" in first.run("gto show captioner").stdout
    Machine(first.scratch, tmp_path).run(get)
    weights = (first.folder / "data" / "models" / "scst" / "model.safetensors").read_bytes()
    assert (tmp_path / "weights" / "model.safetensors").read_bytes() == weights


@pytest.mark.nightly
def test_the_check_before_a_release(second: Machine) -> None:
    """In a clone of the server: it is of its lock, until something is committed that the lock knows not."""
    check = "PYTHONPATH=$PWD python -m tests.listings.lock"
    assert "no stage would run again" in second.run(check).stdout
    params = second.folder / "params.yaml"
    params.write_text(params.read_text().replace("beam_size: 5", "beam_size: 2"))
    (second.folder / "pipeline" / "vocab.py").open("a").write("# changed\n")
    (second.folder / "data" / "concepts" / "README.md").unlink(missing_ok=True)
    assert second.run(check).returncode == 0, "what is not committed does not count"
    second.run("git commit --quiet --all --message change")
    done = second.run(check, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [
        "captions: decode.beam_size: modified",
        "vocab: pipeline/vocab.py: modified",
    ]
