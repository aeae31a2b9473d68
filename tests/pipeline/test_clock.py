"""No result depends on the clock on the wall: it may jump, and two runs never have the same time."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Durations come from time.monotonic and time.perf_counter, which never jump.
WALL_CLOCK = {
    ("time", "time"),
    ("time", "time_ns"),
    ("datetime", "now"),
    ("datetime", "today"),
    ("date", "today"),
}
FILES = [*sorted((ROOT / "fsgr_model").rglob("*.py")), *sorted((ROOT / "pipeline").glob("*.py"))]


def wall_clock_calls(source: str) -> list[str]:
    return [
        f"line {node.lineno}: {node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in WALL_CLOCK
    ]


def test_a_call_is_found():
    assert wall_clock_calls("import time\nstart = time.time()\n") == ["line 2: time.time"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_reads_the_wall_clock(path):
    assert wall_clock_calls(path.read_text()) == []
