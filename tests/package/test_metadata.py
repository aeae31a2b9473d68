"""What the package declares: every import, with the bounds of the requirement files."""

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import requires
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.comparison import read_at_revision
from fsgr_model.training.prototypes import cluster, neighbours
from tests.listings.licences import normal
from tests.listings.rooms import PACKAGE, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE: list[str] = PROJECT["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
# Import names that differ from the name of the distribution.
DISTRIBUTION = {
    "PIL": "pillow",
    "open_clip": "open-clip-torch",
    "ruamel": "ruamel-yaml",
    "faiss": "faiss-cpu",
}
# Distributions that one declared here brings along: each asks in its interface for what is in these.
COMES_ALONG = {"typing-extensions": "pydantic", "dvc-data": "dvc", "anyio": "starlette"}
# Rooms that are imported only by a command that asks for their extra first.
ROOM_OF_EXTRA = {"page": "page"}


def bounds(lines: Iterable[str]) -> set[tuple[str, str]]:
    """Name and bounds of each requirement; the project's own extras are replaced by what they name."""
    found = set()
    for requirement in map(Requirement, lines):
        if normal(requirement.name) == PROJECT["name"]:
            found |= bounds(line for extra in requirement.extras for line in EXTRAS[extra])
        else:
            found.add((normal(requirement.name), str(requirement.specifier)))
    return found


def names(lines: Iterable[str]) -> set[str]:
    return {name for name, _ in bounds(lines)}


def requirement_lines(file: str) -> list[str]:
    text = (ROOT / file).read_text(encoding="utf-8")
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("-")]


def imported_by(text: str) -> Iterator[tuple[str, bool]]:
    """Distributions that a module imports, and whether it does so as soon as it is imported itself."""
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    later = {node for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        for module in _modules(node):
            top = module.split(".")[0]
            if top not in {*sys.stdlib_module_names, "fsgr_model"}:
                name = normal(DISTRIBUTION.get(top, top))
                yield COMES_ALONG.get(name, name), node not in later


def _modules(node: ast.AST) -> list[str]:
    """The modules that one node imports, by a statement or by `importlib.import_module("...")`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module] if node.module and not node.level else []
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
        return [each.value for each in node.args if isinstance(each, ast.Constant)]
    return []


def undeclared(text: str, room: str = "") -> set[str]:
    """What a module imports and nothing declares: dependencies and the extra of its room, or inside a
    function any extra of a user.
    """
    at_once = names([*BASE, *EXTRAS.get(ROOM_OF_EXTRA.get(room, ""), [])])
    later = at_once | names(line for extra, lines in EXTRAS.items() if extra != "dev" for line in lines)
    return {name for name, is_at_once in imported_by(text) if name not in (at_once if is_at_once else later)}


def test_every_import_is_declared() -> None:
    modules = list(PACKAGE.rglob("*.py"))
    found = {path: undeclared(path.read_text(encoding="utf-8"), path.parent.name) for path in modules}
    assert len(found) > 100 and not {path: missing for path, missing in found.items() if missing}


def test_an_undeclared_import_is_noticed() -> None:
    assert undeclared("import os\nfrom scipy.stats import norm\nimport PIL.Image\n") == {"scipy"}
    assert undeclared("import faiss\n") == {"faiss-cpu"}, "an extra may be missing"
    assert undeclared("import starlette\n") == {"starlette"} and not undeclared("import starlette\n", "page")
    assert undeclared("def cluster():\n    import faiss\n    import pytest\n") == {"pytest"}
    assert undeclared("import importlib\nimportlib.import_module('scipy')\n") == {"scipy"}


def test_what_comes_along_is_declared_by_what_brings_it() -> None:
    for name, bringer in COMES_ALONG.items():
        assert name in names(requires(bringer) or [])


def test_the_pipeline_needs_what_the_requirement_file_names() -> None:
    """With the same bounds: `pip install -r requirements.txt` and `.[pipeline]` give the same packages."""
    assert bounds([*BASE, *EXTRAS["pipeline"]]) == bounds(requirement_lines("requirements.txt"))


def test_development_needs_what_the_requirement_files_name() -> None:
    lines = requirement_lines("requirements.txt") + requirement_lines("requirements-dev.txt")
    assert bounds([*BASE, *EXTRAS["dev"]]) == bounds(lines)


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("faiss", "prototypes", lambda: cluster(np.eye(4, dtype=np.float32), 2, seed=0, start_MD=None)),
        ("faiss", "prototypes", lambda: neighbours(*2 * [np.eye(4, dtype=np.float32)], 2)),
        ("dvc", "pipeline", lambda: read_at_revision(Path("data/scores/xe.json"), "main")),
    ],
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(package, extra, use, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf'package {package}.*: pip install "fsgr-captioning\[{extra}\]"$'):
        use()
    assert normal(DISTRIBUTION.get(package, package)) in names(EXTRAS[extra])
