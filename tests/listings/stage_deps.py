"""The modules that each stage in dvc.yaml depends on: python -m tests.listings.stage_deps --write

A stage depends on the modules that its script imports, directly and through others, but for the rooms that
cannot change a result. Without --write the difference is shown.
"""

import argparse
import ast
import difflib
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "dvc.yaml"

# Rooms in which nothing can change a result: how work is done and what a parameter may be.
WITHOUT_EFFECT = ("fsgr_model/runtime/", "fsgr_model/config/")
STAGE_LINE = re.compile(r"  (\w+):")
SCRIPT_LINE = re.compile(r"      - pipeline/\w+\.py")
MODULE_LINE = re.compile(r"      - fsgr_model/\S+\.py")


def module_file(name: str) -> Path | None:
    path = ROOT / (name.replace(".", "/") + ".py")
    return path if path.exists() else None


@cache
def imported_files(path: Path) -> frozenset[Path]:
    """Files of this project that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {module_file(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(module_file(node.module))
            found |= {module_file(f"{node.module}.{alias.name}") for alias in node.names}
    return frozenset(file for file in found if file is not None)


def import_closure(stage: str) -> set[str]:
    """The stage's script and every module behind it that can change a result."""
    seen: set[Path] = set()
    waiting = {ROOT / "pipeline" / f"{stage}.py"}
    while waiting:
        file = waiting.pop()
        seen.add(file)
        waiting |= imported_files(file) - seen
    files = {file.relative_to(ROOT).as_posix() for file in seen}
    return {file for file in files if not file.startswith(WITHOUT_EFFECT)}


def page(text: str) -> str:
    """dvc.yaml with the modules of today's code, in alphabetical order behind each stage's script."""
    return "".join(_with_modules(text.splitlines(keepends=True)))


def _with_modules(lines: list[str]) -> Iterator[str]:
    stage = ""
    for line in lines:
        if found := STAGE_LINE.match(line):
            stage = found[1]
        if MODULE_LINE.match(line):
            continue
        yield line
        if SCRIPT_LINE.match(line):
            modules = sorted(import_closure(stage) - {f"pipeline/{stage}.py"})
            yield from (f"      - {module}\n" for module in modules)


def stages(text: str) -> dict[str, dict]:
    """The stages by name, as YAML has them."""
    return yaml.safe_load(text)["stages"]


def output_paths(stage: dict) -> list[str]:
    """Paths of a stage's outputs, metrics among them."""
    entries = [*stage.get("outs", []), *stage.get("metrics", [])]
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def dependencies_inside_outputs(all_stages: dict[str, dict]) -> list[str]:
    """Dependencies on a file inside another stage's output folder, which DVC looks up through the committed
    lock of that folder: on another machine it was never there (DVC 3.67).
    """
    outputs = {path for stage in all_stages.values() for path in output_paths(stage)}
    return [
        f"{name}: {dep}"
        for name, stage in all_stages.items()
        for dep in stage["deps"]
        if dep not in outputs and any(dep.startswith(f"{path}/") for path in outputs)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write dvc.yaml")
    before = PAGE.read_text(encoding="utf-8")
    after = page(before)
    if parser.parse_args().write:
        PAGE.write_text(after, encoding="utf-8")
        return
    sys.stdout.writelines(
        difflib.unified_diff(before.splitlines(True), after.splitlines(True), "dvc.yaml", "today's code")
    )


if __name__ == "__main__":
    main()
