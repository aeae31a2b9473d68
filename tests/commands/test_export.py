"""An exported model captions on its own, and is whole or absent."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fsgr_model.inference.model_folder import export_model, exported_model
from fsgr_model.runtime.artifacts import load_json, save_json
from fsgr_model.runtime.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """The project, to be changed."""
    return Path(shutil.copytree(project, tmp_path / "copy"))


IMAGE = Path("data/dataset/images/151.png")
# Runs `fsgr` with the arguments that it is given, then says what was imported for that.
PROGRAM = """
import runpy, sys
runpy.run_module("fsgr_model", run_name="__main__")
heavy = ("timm", "transformers", "dvc", "matplotlib", "sklearn", "scipy")
print([name for name in heavy if name in sys.modules], "open_clip" in sys.modules)
"""


@pytest.fixture(scope="module")
def captioned(project: Path, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """`fsgr caption` in a process, in a folder where nothing of the project is: no data, no parameters."""
    away = tmp_path_factory.mktemp("away")
    export_model("xe", away / "model", project)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "caption", "--model", "model", str(project / IMAGE)],
        cwd=away,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_captions_in_an_empty_folder(project: Path, captioned: subprocess.CompletedProcess[str]) -> None:
    (expected,) = [
        row["caption"]
        for row in load_json(project / "data" / "captions" / "xe.json")
        if row["image_id"] == 151
    ]
    assert (captioned.returncode, captioned.stderr) == (0, "")
    assert captioned.stdout.splitlines()[:-1] == [f"{project / IMAGE}\t{expected}"]


def test_captions_import_nothing_that_they_do_not_need(captioned: subprocess.CompletedProcess[str]) -> None:
    """What makes it start in seconds: each of these takes half a second or more by itself."""
    assert captioned.stdout.splitlines()[-1] == "[] True"


def test_scores_of_an_ensemble_are_not_those_of_the_card(copy: Path, tmp_path: Path) -> None:
    metrics = copy / "metrics" / "xe.json"
    save_json(metrics, load_json(metrics) | {"ensemble": {"CIDEr": 1.5}})
    export_model("xe", tmp_path / "model", copy)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| CIDEr | 1.25 |" in card and "1.5" not in card and "ensemble: [" not in card


def test_it_holds_no_pickle_and_a_card_with_the_scores(project: Path, tmp_path: Path) -> None:
    export_model("xe", tmp_path / "model", project)
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".yaml", ".md"}
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| CIDEr | 1.25 |" in card
    assert "| train | 32 | 64 |" in card
    assert load_json(tmp_path / "model" / "metrics.json") == load_json(project / "metrics" / "xe.json")


def test_scores_of_other_weights_are_refused(copy: Path, tmp_path: Path) -> None:
    scores = load_json(copy / "metrics" / "xe.json")
    scores["provenance"][0]["value"] = "0" * 64
    save_json(copy / "metrics" / "xe.json", scores)
    with pytest.raises(UserError, match=r"scores of weights 0{12}….*run dvc repro evaluate"):
        export_model("xe", tmp_path / "model", copy)
    assert not (tmp_path / "model").exists()


def test_a_folder_that_is_there_is_left_alone(project: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("kept")
    with pytest.raises(UserError, match="model exists"):
        export_model("xe", tmp_path / "model", project)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine.txt"]


def test_a_file_that_does_not_fit_leaves_nothing(copy: Path, tmp_path: Path) -> None:
    words = load_json(copy / "data" / "vocab" / "words.json")
    save_json(copy / "data" / "vocab" / "words.json", [*words, "surplus"])
    with pytest.raises(UserError, match="word vectors"):
        export_model("xe", tmp_path / "out" / "model", copy)
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_that_was_not_exported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        exported_model(tmp_path)


@pytest.mark.parametrize(
    "name", ["models/xe/model.safetensors", "vocab/embeddings.safetensors", "clip/clip.json"]
)
def test_a_file_that_is_not_there_is_named_with_its_remedy(copy: Path, tmp_path: Path, name: str) -> None:
    """A fresh clone has the scores, which git keeps, but none of the data."""
    (copy / "data" / name).unlink()
    with pytest.raises(UserError, match=rf"{name} does not exist; run dvc repro"):
        export_model("xe", tmp_path / "out", copy)
    assert not (tmp_path / "out").exists()
