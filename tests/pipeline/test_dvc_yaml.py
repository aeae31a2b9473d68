"""dvc.yaml against the code: a stage depends on exactly what it imports and what it reads of params.yaml."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fsgr_model.scoring.provenance import WITHOUT_EFFECT
from tests.listings import stage_deps
from tests.listings.stage_deps import ROOT

STAGES = stage_deps.stages(stage_deps.PAGE.read_text(encoding="utf-8"))


def parameters_read(path: Path) -> set[str]:
    """Every longest chain `params.a.b` where a stage has the whole file, the untracked sections aside.

    That is its `main`, and whatever takes `params: Params`.
    """
    chains, parts = set(), set()
    functions = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))
    whole = [function for function in functions if function.name == "main" or takes_params(function)]
    for node in (node for function in whole for node in ast.walk(function)):
        names, inner = [], node
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if names and isinstance(inner, ast.Name) and inner.id == "params":
            chains.add(".".join(reversed(names)))
    for chain in chains:
        parts |= {other for other in chains if chain.startswith(other + ".")}
    return {chain for chain in chains - parts if not chain.startswith(WITHOUT_EFFECT)}


def takes_params(function: ast.FunctionDef) -> bool:
    given = (argument.annotation for argument in function.args.args if argument.arg == "params")
    return any(isinstance(annotation, ast.Name) and annotation.id == "Params" for annotation in given)


def test_stages_depend_on_exactly_the_modules_they_import():
    text = stage_deps.PAGE.read_text(encoding="utf-8")
    assert stage_deps.page(text) == text, "run python -m tests.listings.stage_deps --write"


def test_a_module_that_is_missing_or_too_much_is_noticed():
    text = stage_deps.PAGE.read_text(encoding="utf-8")
    module = "      - fsgr_model/inference/decoding.py\n"
    assert stage_deps.page(text.replace(module, "")) == text
    assert stage_deps.page(text.replace(module, module + "      - fsgr_model/other.py\n")) == text


def test_every_dependency_on_a_stage_is_an_output_by_itself():
    """A file inside another stage's output folder is looked up through the lock's folder, which another
    machine never had: `dvc exp run` then fails (slow test: test_two_machines.py)."""
    assert stage_deps.dependencies_inside_outputs(STAGES) == []


def test_a_dependency_inside_an_output_is_noticed():
    toy = {
        "make": {"deps": [], "outs": ["data/labels"], "metrics": [{"m.json": {"cache": False}}]},
        "read": {"deps": ["data/labels/train.h5", "data/labels", "m.json", "data/labels2/x"], "outs": ["o"]},
    }
    assert stage_deps.dependencies_inside_outputs(toy) == ["read: data/labels/train.h5"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_exactly_the_parameters_it_reads(stage):
    assert set(STAGES[stage].get("params", [])) == parameters_read(ROOT / "pipeline" / f"{stage}.py")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_script_is_short_and_is_what_dvc_runs(stage):
    assert STAGES[stage]["cmd"] == f"python -m pipeline.{stage}"
    assert len((ROOT / "pipeline" / f"{stage}.py").read_text().splitlines()) < 165


@pytest.mark.parametrize(
    "name", ["params.yaml", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("presets/*"))]
)
def test_every_tracked_parameter_is_written_out(name):
    """DVC knows no defaults: it refuses a stage whose parameter is not in the file."""
    values = yaml.safe_load((ROOT / name).read_text())
    for stage in STAGES.values():
        for parameter in stage.get("params", []):
            inner = values
            for part in parameter.split("."):
                assert part in inner, f"{parameter} is missing"
                inner = inner[part]


@pytest.mark.parametrize("module", ["fsgr_model.config.params", "pipeline.dataset"])
def test_what_needs_no_network_starts_without_pytorch(module):
    """It takes more than a second of every command that reads params.yaml."""
    command = [sys.executable, "-c", f"import sys, {module}; sys.exit('torch' in sys.modules)"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
