"""The README is short and has its two commands; its tables, and those of architecture.md, are true."""

import json
import re
from pathlib import Path

import yaml

from fsgr_model import api
from fsgr_model.config.dataset_params import KIND_OF_FORMAT
from tests.listings import rooms, stage_deps

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
STAGES = stage_deps.stages(stage_deps.PAGE.read_text(encoding="utf-8"))
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MOST_LINES = 150


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its two head lines."""
    table = re.search(r"(?:^\|.*\n)+", page.partition(f"\n## {heading}\n")[2], re.MULTILINE)
    assert table
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[0].splitlines()[2:]]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= MOST_LINES


def test_it_has_the_commands_to_run_and_to_test() -> None:
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    commands = re.findall(r"^make (\S+) ", README, re.MULTILINE)
    assert commands == ["repro", "test"] and set(commands) <= set(targets)


def test_its_stages_are_those_of_dvc_yaml() -> None:
    shown = {code(name)[0]: set(code(parameters)) for name, _, parameters in rows(README, "The stages")}
    assert list(shown) == list(STAGES)
    assert shown == {name: set(stage["params"]) for name, stage in STAGES.items()}


def test_every_format_is_counted() -> None:
    """All formats but the demo, which is drawn."""
    assert len(KIND_OF_FORMAT) - 1 == 10 and "ten formats" in README


def test_the_stages_of_the_architecture_are_those_of_dvc_yaml() -> None:
    table = rows(ARCHITECTURE, "The stages and what they pass on")
    assert [code(name)[0] for name, _, _ in table] == list(STAGES)


def test_the_rooms_of_the_architecture_are_those_of_the_package() -> None:
    there = [room for room in rooms.ROOMS if room == "pipeline" or (rooms.PACKAGE / room).is_dir()]
    assert [code(name)[0] for name, _ in rows(ARCHITECTURE, "The rooms")] == there


def test_the_citation_is_yaml_with_the_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["license"] == "MIT"
    assert len(citation["references"]) == 5
    assert all(paper["title"] and paper["authors"] for paper in citation["references"])


def test_ci_and_the_container_use_what_is_here() -> None:
    """The workflow calls .ci/run; the container has the oldest Python allowed and makes the environment."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    container = json.loads((ROOT / ".devcontainer.json").read_text(encoding="utf-8"))
    oldest = re.search(
        r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )
    assert oldest and container["image"].endswith(f":{oldest[1]}")
    assert container["postCreateCommand"] == "make .venv/bin/.dev"


def test_its_lines_of_python_are_those_of_the_interface() -> None:
    """The three lines are the ones in the docstring of the public interface, which has tests of its own."""
    (block,) = PYTHON.findall(README)
    lines = [line.partition("#")[0].strip() for line in block.splitlines() if line.strip()]
    said = [line.partition("#")[0].strip() for line in (api.__doc__ or "").splitlines()]
    assert len(lines) == 3 and all(line in said for line in lines)
