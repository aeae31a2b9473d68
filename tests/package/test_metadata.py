"""What the package declares: every import, with the bounds of requirements.txt."""

import ast
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from tests.listings.licences import normal
from tests.listings.rooms import PACKAGE, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Import names that are not the distribution's own.
DISTRIBUTION = {
    "PIL": "pillow",
    "open_clip": "open-clip-torch",
    "ruamel": "ruamel-yaml",
    "faiss": "faiss-cpu",
}
# They come with what is declared.
COMES_ALONG = {"typing_extensions": "pydantic", "dvc_data": "dvc"}


def requirements(lines: list[str]) -> dict[str, str]:
    found = [Requirement(line) for line in lines]
    return {normal(each.name): str(each.specifier) for each in found}


def declared() -> dict[str, str]:
    extras = PROJECT["optional-dependencies"]
    return requirements([*PROJECT["dependencies"], *(line for extra in extras.values() for line in extra)])


def named(file: str) -> dict[str, str]:
    lines = [line.partition("#")[0].strip() for line in Path(ROOT / file).read_text().splitlines()]
    return requirements([line for line in lines if line and not line.startswith("-")])


def third_party(path: Path) -> set[str]:
    """The packages that a module imports, by the names of their distributions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    names -= {*sys.stdlib_module_names, "fsgr_model", "pipeline"}
    return {normal(COMES_ALONG.get(name, DISTRIBUTION.get(name, name))) for name in names}


def test_every_import_is_declared() -> None:
    imported = {name for path in PACKAGE.rglob("*.py") for name in third_party(path)}
    assert imported and imported <= declared().keys()


def test_the_bounds_are_those_of_the_requirement_files() -> None:
    files = named("requirements.txt") | named("requirements-dev.txt")
    assert {name: files.get(name) for name in declared()} == declared()


def test_the_requirement_file_names_nothing_that_the_package_forgot() -> None:
    assert named("requirements.txt").keys() <= declared().keys()


def test_an_undeclared_import_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("import os\nfrom scipy.stats import norm\nimport PIL.Image\n")
    assert third_party(tmp_path / "module.py") == {"scipy", "pillow"}
