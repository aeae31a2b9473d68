"""The rooms of the package, from the top down, and what imports what: python -m tests.listings.rooms

A module may import from its own room and from those below it. The table that this prints says how often each
room does.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fsgr_model"
ROOMS = (
    "pipeline",
    "commands",
    "page",
    "checkup",
    "training",
    "inference",
    "reporting",
    "scoring",
    "network",
    "clip",
    "datasets",
    "text",
    "config",
    "kernels",
    "runtime",
)
# Modules beside the rooms: they may use any of them.
AT_THE_DOOR = {"__init__", "__main__", "api"}


def modules() -> list[Path]:
    """All of the package and of the stages."""
    return sorted([*PACKAGE.rglob("*.py"), *(ROOT / "pipeline").glob("*.py")])


def room_of(name: str) -> str | None:
    """The room of a module's dotted name; None where it lies beside them or is none of ours."""
    parts = name.split(".")
    if parts[0] == "pipeline":
        return "pipeline"
    return parts[1] if parts[0] == "fsgr_model" and len(parts) > 1 and parts[1] in ROOMS else None


def imported_names(path: Path) -> Iterator[str]:
    """Dotted names of modules that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if (ROOT / node.module.replace(".", "/")).is_dir():
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def edges() -> list[tuple[str, str, Path, str]]:
    """From which room to which other one, by which module, of which."""
    found = []
    for path in modules():
        here = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for name in imported_names(path):
            there = room_of(name)
            if here and there and here != there:
                found.append((here, there, path.relative_to(ROOT), name))
    return found


def upward(found: list[tuple[str, str, Path, str]]) -> list[str]:
    """Imports of a room above the module's own."""
    return [f"{path} imports {name}" for a, b, path, name in found if ROOMS.index(b) < ROOMS.index(a)]


def main() -> None:
    counts = Counter((a, b) for a, b, _, _ in edges())
    for room in ROOMS:
        below = [f"{b} {counts[room, b]}" for b in ROOMS if counts[room, b]]
        print(f"{room:<10} {', '.join(below)}")
    print("\n".join(upward(edges())) or "No room imports one above it.")


if __name__ == "__main__":
    main()
