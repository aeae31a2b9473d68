"""Every call of the project that asks the system for a file, found in its source; each can be refused.

`instrument` imports the project with these calls led through `gate`, which a sweep sets.
"""

import ast
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("fsgr_model", "pipeline")
# By the last name of what is called. Of those that other things have too, the owner decides: see `is_place`.
CALLS = frozenset(
    (
        "open", "fdopen", "read_text", "write_text", "read_bytes", "write_bytes", "touch", "truncate",
        "read", "readinto", "readline", "readlines", "write", "writelines", "flush", "seek", "fsync",
        "mkdir", "makedirs", "unlink", "remove", "rmdir", "rmtree", "rename", "replace", "link", "symlink",
        "symlink_to", "hardlink_to", "chmod", "copy", "copy2", "copyfile", "copytree", "copyfileobj", "move",
        "iterdir", "glob", "rglob", "walk", "scandir", "listdir", "stat", "lstat", "fstat", "exists",
        "is_file", "is_dir", "is_symlink", "getsize", "resolve", "realpath", "samefile", "disk_usage",
        "statvfs", "posix_fallocate", "flock", "lockf", "File", "memmap", "fromfile", "tofile", "mmap",
        "load", "savez", "loadtxt", "safe_open", "load_file", "save_file", "is_zipfile", "ZipFile",
        "extractfile", "extract", "extractall", "getmembers", "TemporaryFile", "NamedTemporaryFile",
        "TemporaryDirectory", "mkdtemp", "mkstemp", "Popen", "run", "check_output", "truetype",
        "download_pretrained",
    )
)  # fmt: skip
# Names that other things have too, and of what they are places.
OWNERS = {
    "load": ("np", "torch", "torch.jit", "json", "yaml"),
    "run": ("subprocess",),
    "copy": ("shutil",),
    "remove": ("os",),
    "walk": ("os",),
}
# What the standard library has in memory: no file is asked for.
IN_MEMORY = ("sys.stdout", "sys.stderr")


@dataclass(frozen=True, order=True)
class Place:
    """A call: the module and the function that it is in, what it calls, and which of equal ones it is."""

    module: str
    function: str
    call: str
    number: int = 0

    def __str__(self) -> str:
        return f"{self.module}: {self.text}" + (f" ({self.number})" if self.number else "")

    @property
    def text(self) -> str:
        """Without the module, which may move."""
        return f"{self.function}: {self.call}"


Gate = Callable[[Place, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


def gate(place: Place, call: Callable[..., Any], given: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What each place goes through; as it is, it only calls."""
    return call(*given, **named)


GATE: list[Gate] = [gate]


def is_place(call: ast.Call, own: frozenset[str]) -> bool:
    """Whether a call asks for a file; `own` are the functions that the module has from the project."""
    name = _name(call.func)
    if name not in CALLS or (isinstance(call.func, ast.Name) and name in own):
        return False
    words = {keyword.arg for keyword in call.keywords}
    owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    if owner in IN_MEMORY:
        return False
    if name in OWNERS:
        return owner in OWNERS[name]
    if name == "replace":  # of a text or of a record
        return len(call.args) == 1 and not words
    return True


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


class _Wrapping(ast.NodeTransformer):
    """`f(x)` becomes `__gated__(place, f)(x)`; the places are kept, with their lines."""

    def __init__(self, module: str, own: frozenset[str]) -> None:
        self.module, self.own = module, own
        self.within: list[str] = []
        self.places: list[Place] = []
        self.lines: dict[int, Place | None] = {}

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
        found, call = is_place(node, self.own), ast.unparse(node.func)
        if found and any(keyword.arg == "ignore_errors" for keyword in node.keywords):
            # It takes what the system says for granted.
            self.lines |= dict.fromkeys(range(node.lineno, (node.end_lineno or 0) + 1), None)
            found = False
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        self.generic_visit(node)
        if found:
            function = ".".join(self.within)
            equal = sum((each.function, each.call) == (function, call) for each in self.places)
            self.places.append(Place(self.module, function, call, equal))
            self.lines |= dict.fromkeys(lines, self.places[-1])
            gated = ast.Name("__gated__", ast.Load())
            wrapped = ast.Call(gated, [ast.Constant(len(self.places) - 1), node.func], [])
            node.func = ast.copy_location(wrapped, node)
        return node


def wrap(source: str, path: Path) -> tuple[ast.Module, _Wrapping]:
    tree = ast.parse(source)
    wrapping = _Wrapping(path.stem, frozenset(_own_names(tree)))
    return ast.fix_missing_locations(wrapping.visit(tree)), wrapping


def _own_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PACKAGES:
            yield from (alias.asname or alias.name for alias in node.names)


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def places() -> list[Place]:
    """All of the project."""
    return [place for path in sources() for place in wrap(path.read_text(encoding="utf-8"), path)[1].places]


class _Loader(importlib.machinery.SourceFileLoader):
    def path_stats(self, path: str) -> dict[str, Any]:
        raise OSError("bytecode of a module that is not wrapped must not be taken")

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:
        tree, self.wrapping = wrap(bytes(data).decode(), Path(path))
        LINES[str(path)] = self.wrapping.lines
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    def exec_module(self, module: ModuleType) -> None:
        def gated(index: int, call: Callable[..., Any]) -> Callable[..., Any]:
            place = self.wrapping.places[index]
            return lambda *given, **named: GATE[0](place, call, given, named)

        module.__dict__["__gated__"] = gated
        super().exec_module(module)


# Which lines of each file belong to a place.
LINES: dict[str, dict[int, Place | None]] = {}


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
