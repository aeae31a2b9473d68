"""Every call of the project that opens, locks or changes a file, found in its source; each can be refused.

Within `instrumented` the project's modules are imported with such calls wrapped: a call is noted, and is
refused with the system's error where that is asked for.
"""

import ast
import errno
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("fsgr_model", "pipeline")
# By the last name of what is called; `replace` and `save` of other things are told apart by their arguments.
CALLS = {
    "open", "fdopen", "read_text", "write_text", "read_bytes", "write_bytes", "File", "memmap", "flock", "lockf",
    "replace", "rename", "mkdir", "unlink", "link", "copyfile", "fsync", "sync", "rmtree", "iterdir", "glob", "rglob",
    "stat", "fstat", "exists", "is_file", "is_dir", "disk_usage", "posix_fallocate", "truncate", "resolve", "touch",
    "load", "safe_open", "load_file", "save_file", "is_zipfile", "ZipFile", "TemporaryFile", "TemporaryDirectory",
    "Popen", "run",
}  # fmt: skip
# Path's own questions take these errors for the answer "no".
QUESTIONS = {"exists", "is_file", "is_dir"}
NO = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP))


@dataclass(frozen=True)
class Place:
    """A call: its file, the function that it is in, what it calls, and which of equal ones it is there."""

    file: str
    function: str
    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.file} {self.function}: {self.call}" + (f" ({self.number})" if self.number else "")


@dataclass
class Refusals:
    """Which places were come to, in order; and the place that is to be refused, with the error's number."""

    reached: list[Place] = field(default_factory=list)
    refused: Place | None = None
    number: int = 0

    def passes(self, place: Place, call: Callable[..., Any]) -> Callable[..., Any]:
        if place not in self.reached:
            self.reached.append(place)
        return self._refuse if place == self.refused else call

    def _refuse(self, *arguments: object, **options: object) -> None:
        raise OSError(self.number, os.strerror(self.number), "a/file")


REFUSALS = Refusals()


def is_place(call: ast.Call) -> bool:
    """Whether a call is one of `CALLS` on files, not one of their namesakes."""
    name = _name(call)
    if name not in CALLS:
        return False
    words = {keyword.arg for keyword in call.keywords}
    if name == "rmtree":
        return "ignore_errors" not in words
    owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    if name == "replace":
        return len(call.args) == 1 and not words and owner != "memory"
    if name == "load":
        return owner in ("np", "torch", "torch.jit")
    if name == "open":
        return owner != "Image"
    if name == "run":
        return owner == "subprocess"
    return True


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


class _Wrapping(ast.NodeTransformer):
    """`f(x)` becomes `__passes__(place, f)(x)`; the places are kept."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.within: list[str] = []
        self.places: list[Place] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._inside(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._inside(node)

    def _inside(self, node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
        self.within.append(node.name)
        self.generic_visit(node)
        self.within.pop()
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        found = is_place(node)
        call = ast.unparse(node.func)
        self.generic_visit(node)
        if found:
            function = ".".join(self.within)
            equal = sum((each.function, each.call) == (function, call) for each in self.places)
            self.places.append(Place(self.file, function, call, equal))
            passes = ast.Name("__passes__", ast.Load())
            wrapped = ast.Call(passes, [ast.Constant(len(self.places) - 1), node.func], [])
            node.func = ast.copy_location(wrapped, node)
        return node


def wrap(source: str, file: str) -> tuple[ast.Module, list[Place]]:
    wrapping = _Wrapping(file)
    return ast.fix_missing_locations(wrapping.visit(ast.parse(source))), wrapping.places


def places() -> list[Place]:
    """All of the project."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [
        place
        for path in files
        for place in wrap(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())[1]
    ]


class _Loader(importlib.machinery.SourceFileLoader):
    def path_stats(self, path: str) -> dict[str, Any]:
        raise OSError("no cached bytecode, please")

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:
        tree, self.places = wrap(bytes(data).decode(), Path(path).relative_to(ROOT).as_posix())
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__passes__"] = lambda index, call: REFUSALS.passes(self.places[index], call)
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in PACKAGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.name, spec.loader.path)
        return spec


def instrument() -> None:
    """Import the project with its places wrapped, from now on."""
    assert not any(name.partition(".")[0] in PACKAGES for name in sys.modules), "it is imported already"
    sys.meta_path.insert(0, _Finder())
