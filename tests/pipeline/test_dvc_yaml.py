"""dvc.yaml against the code: a stage depends on exactly what it imports and what it reads of params.yaml."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

# Plumbing: it says how work is done or how a mistake is told, and cannot change a result.
PLUMBING = {
    "fsgr_model/artifacts.py",
    "fsgr_model/clip/feature_store.py",
    "fsgr_model/clip/lean_imports.py",
    "fsgr_model/clip/open_clip_api.py",
    "fsgr_model/clip/torchvision_repair.py",
    "fsgr_model/dataset_params.py",
    "fsgr_model/device.py",
    "fsgr_model/errors.py",
    "fsgr_model/gpu_memory.py",
    "fsgr_model/unset_weights.py",
    "fsgr_model/params.py",
    "fsgr_model/progress.py",
    "fsgr_model/resources.py",
    "fsgr_model/section.py",
    "fsgr_model/stopping.py",
    "fsgr_model/tensor_file.py",
    "fsgr_model/training/resume.py",
    "fsgr_model/training/row_cache.py",
    "fsgr_model/training/step_memory.py",
}


def module_file(name: str) -> Path | None:
    path = ROOT / (name.replace(".", "/") + ".py")
    return path if path.exists() else None


def imported_files(path: Path) -> set[Path]:
    """Files of this project that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {module_file(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(module_file(node.module))
            found |= {module_file(f"{node.module}.{alias.name}") for alias in node.names}
    return {file for file in found if file is not None}


def import_closure(path: Path) -> set[str]:
    seen: set[Path] = set()
    waiting = {path}
    while waiting:
        file = waiting.pop()
        seen.add(file)
        waiting |= imported_files(file) - seen
    return {str(file.relative_to(ROOT)) for file in seen} - PLUMBING


def parameters_read(path: Path) -> set[str]:
    """Every longest chain `params.a.b` in a stage script, but for the untracked runtime section."""
    chains, parts = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        names, inner = [], node
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if names and isinstance(inner, ast.Name) and inner.id == "params":
            chains.add(".".join(reversed(names)))
    for chain in chains:
        parts |= {other for other in chains if chain.startswith(other + ".")}
    return {chain for chain in chains - parts if not chain.startswith("runtime")}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_modules_it_imports(stage):
    declared = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert declared == import_closure(ROOT / "pipeline" / f"{stage}.py")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_exactly_the_parameters_it_reads(stage):
    assert set(STAGES[stage].get("params", [])) == parameters_read(ROOT / "pipeline" / f"{stage}.py")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_script_is_short_and_is_what_dvc_runs(stage):
    assert STAGES[stage]["cmd"] == f"python -m pipeline.{stage}"
    assert len((ROOT / "pipeline" / f"{stage}.py").read_text().splitlines()) < 45


def test_plumbing_is_real():
    assert all((ROOT / name).exists() for name in PLUMBING)


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
