"""The wheel, built and used from an environment in which nothing of the project lies."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from fsgr_model.inference.model_folder import export_model
from fsgr_model.runtime.artifacts import load_json
from tests.listings.rooms import PACKAGE, ROOT

pytestmark = pytest.mark.slow
IMAGE_ID = 151
IN_PYTHON = """
import fsgr_model
from fsgr_model import load_captioner
captioner = load_captioner("model")
print(captioner("{image}"))
print(fsgr_model.__file__)
"""


def run(*command: str | Path, cwd: Path) -> str:
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    settings["PYTHONWARNINGS"] = "ignore"
    done = subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps")
    run(*pip, "--no-build-isolation", "--wheel-dir", folder, str(ROOT), cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheel; libraries are those of the environment that the tests run in."""
    folder = tmp_path_factory.mktemp("environment") / "env"
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder.parent)
    own = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    # A plain line of a .pth file: of the libraries' environment, its own .pth files are not read.
    (own / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_every_module_and_data_file_is_in_the_wheel(wheel: Path) -> None:
    files = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".json", ".typed")
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert held == files


def test_it_captions_a_photo_from_the_terminal_and_from_python(
    environment: Path, project: Path, tmp_path: Path
) -> None:
    export_model("xe", tmp_path / "model", project)
    image = project / "data" / "dataset" / "images" / f"{IMAGE_ID}.png"
    rows = load_json(project / "data" / "captions" / "xe.json")
    (expected,) = [row["caption"] for row in rows if row["image_id"] == IMAGE_ID]
    fsgr = environment / "bin" / "fsgr"
    assert run(fsgr, "caption", "--model", "model", image, cwd=tmp_path) == f"{image}\t{expected}\n"
    said = run(environment / "bin" / "python", "-c", IN_PYTHON.format(image=image), cwd=tmp_path)
    caption, place = said.splitlines()
    assert caption == expected and Path(place).is_relative_to(environment)
    assert run(fsgr, "--version", cwd=tmp_path).startswith("fsgr ")
