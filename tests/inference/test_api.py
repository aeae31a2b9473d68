"""The three lines of Python: the captions of the pipeline, whatever is given and however it is grouped."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import fsgr_model
from fsgr_model import load_captioner
from fsgr_model.inference.model_folder import export_model
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError
from tests.listings.rooms import ROOT


@pytest.fixture(scope="module")
def model(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_model("xe", folder, project)
    return folder


@pytest.fixture(scope="module")
def captions(project: Path) -> dict[Path, str]:
    """What the stage `captions` made of the test pictures."""
    rows = load_json(project / "data" / "captions" / "xe.json")
    return {
        project / "data" / "dataset" / "images" / f"{row['image_id']}.png": row["caption"] for row in rows
    }


def test_it_says_what_the_pipeline_says(model: Path, captions: dict[Path, str]) -> None:
    captioner = load_captioner(model)
    paths = list(captions)
    assert captioner(paths) == [captions[path] for path in paths]
    assert captioner(paths[::-1]) == [captions[path] for path in paths[::-1]]
    assert captioner(str(paths[0])) == captions[paths[0]]
    with Image.open(paths[1]) as picture:
        assert captioner(picture) == captions[paths[1]]
    assert captioner([]) == []


def test_more_is_told_of_a_picture(model: Path, captions: dict[Path, str]) -> None:
    captioner = load_captioner(model, samples=3, seed=4)
    (described,) = captioner.describe([next(iter(captions))])
    assert len(described.captions) == 3
    assert all(caption.log_probability < 0 for caption in described.captions)
    assert described.concept_SS is not None
    assert described.concept_SS.min() >= 0 and described.concept_SS.max() < len(captioner.concepts)


def test_a_picture_that_is_none_is_an_error(model: Path, tmp_path: Path) -> None:
    captioner = load_captioner(model)
    with pytest.raises(UserError, match="missing"):
        captioner(tmp_path / "nowhere.jpg")
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(UserError, match=r"text\.jpg"):
        captioner([tmp_path / "text.jpg"])
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        load_captioner(tmp_path)


def test_the_package_itself_imports_no_pytorch() -> None:
    code = "import sys, fsgr_model; print('torch' in sys.modules, fsgr_model.__version__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"False {fsgr_model.__version__}\n"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fsgr_model.nothing  # noqa: B018
