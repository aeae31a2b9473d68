"""A mistake of the user ends stage `dataset` with one clear line, exit code 1 and nothing half written."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fsgr_model.runtime.errors import run_command
from pipeline import dataset as stage
from tests.worlds.commands import run_here
from tests.worlds.small_dataset import FILES, SmallDataset

ROOT = Path(__file__).parents[2]


class Project:
    """A folder with a params.yaml and a small dataset below data/small, in which the stage runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.small = SmallDataset(root / "data" / "small")
        self.values: dict[str, Any] = yaml.safe_load((ROOT / "presets" / "flickr8k.yaml").read_text())
        self.values["dataset"] |= {"root": "data/small", "captions": FILES, "on_bad_image": "fail"}
        self.values["runtime"] = {"workers": 0}

    def write(self) -> None:
        self.small.write()
        (self.root / "params.yaml").write_text(yaml.safe_dump(self.values))

    def run(self) -> subprocess.CompletedProcess[str]:
        return run_here(lambda: run_command(stage.main), folder=self.root)

    def run_alone(self) -> subprocess.CompletedProcess[str]:
        """As DVC does."""
        return subprocess.run(
            [sys.executable, "-m", "pipeline.dataset"],
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    def refusal(self, alone: bool = False) -> str:
        """Run the stage, which must fail properly; the line that it says."""
        done = self.run_alone() if alone else self.run()
        assert done.returncode == 1, done
        line, newline, rest = done.stderr.partition("\n")
        assert line.startswith("error: ") and newline and not rest, done.stderr
        assert [place.name for place in (self.root / "data").iterdir()] == ["small"]
        return line


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_small_project_runs(project: Project) -> None:
    project.write()
    done = project.run_alone()
    assert (done.returncode, done.stderr) == (0, "")
    made = project.root / "data" / "dataset"
    assert {file.name for file in made.iterdir()} == {
        "images.json", "captions.json", "instances.json", "report.json", "images", "pretraining",
        "images.json.sha256", "captions.json.sha256", "instances.json.sha256",
        "tokens.npz", "tokens.npz.sha256",
    }  # fmt: skip


def test_wrong_parameters_are_all_named(project: Project) -> None:
    project.values["xe"]["epochs"] = "many"
    project.values["dataset"]["on_bad_image"] = "ignore"
    project.values["lerning_rate"] = 1e-4
    del project.values["model"]["d_ff"]
    project.write()
    line = project.refusal()
    assert "xe.epochs: " in line and "(found 'many')" in line
    assert "dataset.on_bad_image: " in line and "(found 'ignore')" in line
    assert "lerning_rate: unknown parameter" in line
    assert "model.d_ff: missing" in line


def test_params_file_missing_or_no_yaml(project: Project) -> None:
    project.write()
    (project.root / "params.yaml").write_text("lr: [1\n")
    assert "params.yaml is not valid YAML" in project.refusal()
    (project.root / "params.yaml").unlink()
    assert "params.yaml does not exist" in project.refusal()


def test_missing_root(project: Project) -> None:
    project.values["dataset"]["root"] = "data/flickr8k"
    project.write()
    line = project.refusal(alone=True)
    assert "dataset.root: there is no folder data/flickr8k" in line
    assert "-S dataset.root=/path/to/it" in line


def test_missing_and_undecodable_images_are_listed_at_once(project: Project) -> None:
    images = project.small.root / "images"
    (images / "12.png").unlink()
    (images / "14.png").write_bytes((images / "14.png").read_bytes()[:150])
    (images / "21.png").write_text("<html>not found</html>")
    project.write()
    line = project.refusal()
    assert "images below data/small/images that are missing or cannot be decoded, 3 in all: " in line
    assert all(name in line for name in ("12.png", "14.png", "21.png"))


def test_caption_of_an_unknown_image(project: Project) -> None:
    project.small.files["test"]["annotations"][0]["image_id"] = 77
    project.write()
    assert "captions of unknown images: image 77 (annotation 310 in captions_test.json)" in project.refusal()


def test_empty_caption(project: Project) -> None:
    project.small.files["val"]["annotations"][0]["caption"] = ""
    project.write()
    assert "captions without a word: annotation 210 of image 21" in project.refusal()


def test_split_overlap(project: Project) -> None:
    project.small.files["val"]["images"][0]["file_name"] = "13.png"
    project.write()
    assert "splits overlap: the same file name" in project.refusal()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(project: Project, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The third file of the normal form finds no room: neither it nor the two before it stay."""
    project.write()
    monkeypatch.chdir(project.root)
    write_text = Path.write_text

    def run_full(path: Path, text: str, **options: Any) -> int:
        if path.name.startswith("instances.json"):
            raise OSError(number, os.strerror(number), str(path))
        return write_text(path, text, **options)

    monkeypatch.setattr(Path, "write_text", run_full)
    with pytest.raises(SystemExit, match=r"no space left on the disk .*instances\.json") as end:
        run_command(stage.main)
    assert "\n" not in str(end.value.code)
    assert [place.name for place in (project.root / "data").iterdir()] == ["small"]


def test_what_a_killed_run_left_behind_is_cleared_away(project: Project) -> None:
    project.write()
    left = project.root / "data" / "dataset.partial"
    left.mkdir()
    (left / "junk.json").write_text("{")
    assert project.run().returncode == 0
    assert not left.exists()
    assert not (project.root / "data" / "dataset" / "junk.json").exists()
