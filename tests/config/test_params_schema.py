"""Every parameter with every kind of wrong value, from the schema of the parameters: none is forgotten."""

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fsgr_model.config import params
from fsgr_model.config.dataset_params import KIND_OF_FORMAT
from fsgr_model.config.params import Params, load_params
from fsgr_model.runtime.errors import UserError

ROOT = Path(__file__).parents[2]
VALUES: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
SCHEMA = Params.model_json_schema()
WRONG_TYPES: dict[str, list[Any]] = {
    "integer": ["many", 1.5, [1], {"a": 1}, None, "1e400", float("nan"), float("inf"), "0x10", ""],
    "number": ["fast", [0.1], {"a": 1}, None, float("nan"), float("inf"), -float("inf"), "1,5", ""],
    "boolean": ["perhaps", 2, [True], None, 0.5, ""],
    "string": [7, 1.5, True, ["a"], {"a": 1}],
    "array": ["a", 7, {"a": 1}, [7.5]],
    "object": ["a", 7, [1], [{}]],
}


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    return SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def leaves(schema: dict[str, Any], name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Dotted name and schema of everything that can be set, sections too: they have a type of their own."""
    for key, of_key in resolved(schema).get("properties", {}).items():
        dotted = f"{name}.{key}".lstrip(".")
        yield dotted, of_key
        for option in [of_key, *of_key.get("anyOf", []), *of_key.get("oneOf", [])]:
            yield from leaves(option, dotted)


LEAVES = dict(leaves(SCHEMA))


def wrong_values(schema: dict[str, Any]) -> Iterator[Any]:
    """Values that the schema of a parameter does not take: of another type, out of range, not in the list."""
    options = [resolved(option) for option in schema.get("anyOf", [schema])]
    kinds = {option.get("type", "string") for option in options}
    for value in WRONG_TYPES[next(iter(kinds - {"null"}))]:
        fits = (
            (value is None and "null" in kinds)
            or (isinstance(value, dict) and "object" in kinds)
            or (type(value) is int and "integer" in kinds and "string" in kinds)
            or (isinstance(value, str) and "string" in kinds and value != "")
        )
        if not fits and not (value == "" and "string" in kinds):
            yield value
    (option, *_) = [each for each in options if each.get("type") != "null"]
    step = 1 if option.get("type") == "integer" else 1e-9
    bounds = {"minimum": -step, "maximum": step, "exclusiveMinimum": 0, "exclusiveMaximum": 0}
    yield from (option[bound] + past for bound, past in bounds.items() if bound in option)
    if "enum" in option:
        yield from ("none of them", option["enum"][0].upper(), "", 7)


SPLITS = {"train": "a", "val": "b", "test": "c"}
DATASETS = [
    VALUES["dataset"],
    *(
        {"format": form, "root": "data/own", "watch": ".", **values}
        for form, values in {
            "coco": {"images": ".", "captions": SPLITS},
            "karpathy": {"images": ".", "karpathy_file": "a.json"},
            "m2": {"m2": {"ids": ".", "sources": [{"captions": "a.json", "images": "."}]}},
            "folder": {"images": ".", "table": {"file": "a.csv"}, "seed": 42},
            "webdataset": {"shards": SPLITS},
        }.items()
    ),
]


def section_with(name: str) -> dict[str, Any]:
    """A section `dataset` of the first format that has this parameter, or of the demo."""
    has = [each for each in DATASETS if name in KIND_OF_FORMAT[each["format"]].model_fields]
    return copy.deepcopy((has or DATASETS)[0])


def changed(name: str, value: Any) -> dict[str, Any]:
    """params.yaml with a dotted name set; sections that are null are filled in, that the name is reached, and
    the dataset is of a format that has the name.
    """
    values: dict[str, Any] = copy.deepcopy(VALUES)
    *sections, last = name.split(".")
    if sections[:1] == ["dataset"]:
        values["dataset"] = section_with(name.split(".")[1])
    inner = values
    for section in sections:
        if not isinstance(inner.get(section), dict):
            inner[section] = {}
        inner = inner[section]
    inner[last] = value
    return values


CASES = [(name, value) for name, schema in LEAVES.items() for value in wrong_values(schema)]


def refusal(values: Any) -> str:
    """What the loader says of these values; writing them as YAML for each case would take minutes."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError) as caught:
        patch.setattr(params, "load_yaml", lambda path: values)
        load_params(ROOT / "params.yaml")
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_there_is_a_wrong_value_for_every_parameter() -> None:
    """More than three hundred values; a field whose schema has no type of the table would raise."""
    assert len(CASES) > 300
    free = {name for name in LEAVES if name not in {case for case, _ in CASES}}
    assert not free


@pytest.mark.parametrize("name", LEAVES)
def test_a_wrong_value_is_refused_by_name(name: str) -> None:
    for value in [value for case, value in CASES if case == name]:
        found = refusal(changed(name, value))
        assert name in found, (value, found)


@pytest.mark.parametrize(
    "section", ["", *[name for name in LEAVES if "properties" in resolved(LEAVES[name])]]
)
def test_an_unknown_name_is_refused_in_every_section(section: str) -> None:
    name = f"{section}.epochz".lstrip(".")
    assert f"{name}: unknown parameter (found 3); check its spelling" in refusal(changed(name, 3))


@pytest.mark.parametrize("name", [name for name in VALUES if Params.model_fields[name].is_required()])
def test_a_section_or_number_that_is_gone_is_named(name: str) -> None:
    values = copy.deepcopy(VALUES)
    del values[name]
    assert f"{name}: missing; add it" in refusal(values)


def test_exported_models_of_before_ensembles_are_read(tmp_path: Path) -> None:
    older = {name: value for name, value in VALUES.items() if name != "ensemble"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(older))
    assert load_params(tmp_path / "params.yaml").ensemble == []


def test_runtime_may_be_left_out_since_no_result_depends_on_it(tmp_path: Path) -> None:
    assert "runtime" not in VALUES
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(VALUES | {"runtime": {"image_batch": 3}}))
    runtime = load_params(tmp_path / "params.yaml").runtime
    assert (runtime.workers, runtime.image_batch) == (2, 3)


def test_a_range_of_scores_is_in_order_and_may_be_left_out(tmp_path: Path) -> None:
    """No result depends on it either."""
    low_first = {"epoch": 2, "low": 1.5, "high": 1.5}
    assert "low (1.5) must be below high (1.5)" in refusal(VALUES | {"on_track": {"xe": [low_first]}})
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump({name: value for name, value in VALUES.items() if name != "on_track"})
    )
    assert load_params(tmp_path / "params.yaml").on_track.xe == []


@pytest.mark.parametrize(
    "text", ["", "7", "[]", "a: b: c", "lr: 2001-99-99", "\tlr: 1", 
             "lr: !!python/object/apply:os.system [ls]",
             "[" * 1_200, "lr: &a [*a]", "? [a]\n: b", "lr: 1\x00"],
)  # fmt: skip
def test_a_file_that_holds_no_parameters(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=r"params\.yaml") as caught:
        load_params(tmp_path / "params.yaml")
    assert str(caught.value).isprintable()


CONTRADICTIONS = [
    ({"model.num_heads": 7}, "d_model 128 must be a multiple of 4 and of num_heads 7"),
    ({"clip.training": None}, "pretrained: demo needs clip.training"),
    (
        {"dataset": DATASETS[4] | {"table": {"file": "a.csv", "val_share": 0.6, "test_share": 0.5}}},
        "dataset.table: Value error, val_share 0.6 and test_share 0.5 leave no training images",
    ),
    ({"dataset": DATASETS[4] | {"images": SPLITS}}, "one table for all splits has one folder of images"),
    (
        {"dataset": DATASETS[1] | {"format": "nocaps", "instances": ["a.json"]}},
        "format nocaps has no masks",
    ),
    ({"dataset": DATASETS[2] | {"images": SPLITS}}, "dataset.images: Input should be a valid string"),
    ({"xe.alignment": {"weight": 0.1}, "model.semantics": False}, "xe.alignment compares regions"),
]


@pytest.mark.parametrize(("changes", "message"), CONTRADICTIONS, ids=range(len(CONTRADICTIONS)))
def test_parameters_that_contradict_each_other(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    values = copy.deepcopy(VALUES)
    for name, value in changes.items():
        section, _, key = name.partition(".")
        values[section] = values[section] | {key: value} if key else value
    assert message in refusal(values)


BY_DVC = {
    "lr=0.5": "lr: Input should be less than or equal to 0.01 (found 0.5)",
    "xe.epochs=many": "xe.epochs: Input should be a valid integer",
    "xe.epochs=0": "xe.epochs: Input should be greater than or equal to 1 (found 0)",
    "+xe.epochz=3": "xe.epochz: unknown parameter (found 3); check its spelling",
    "model.num_heads=7": "d_model 128 must be a multiple of 4 and of num_heads 7",
    "labels.attention=ignore": "labels.attention: Input should be 'value', 'csa', 'qk_kk' or 'plain'",
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with this project's files as they are, and nothing made yet."""
    project = tmp_path_factory.mktemp("scratch") / "project"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listed.splitlines():
        if not name.startswith(("tests/", "docs/", "metrics/", "plots/")) and (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project / name)
    for command in ("git init -q", "git add -A", "git -c user.name=a -c user.email=a@b commit -qm a"):
        subprocess.run(command.split(), cwd=project, check=True)
    return project


@pytest.mark.slow
@pytest.mark.parametrize("change", BY_DVC)
def test_an_experiment_with_a_wrong_parameter_is_refused_in_one_line(scratch: Path, change: str) -> None:
    """`dvc exp run -S` stops in the first stage, whichever section the parameter belongs to."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["dvc", "exp", "run", "-S", change],
        cwd=scratch,
        env=os.environ | {"PATH": path, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0, done.stderr
    assert len(said) == 1 and BY_DVC[change] in said[0], done.stderr
    assert "Traceback" not in done.stderr
    assert not list((scratch / "data" / "dataset").glob("*.json")), "DVC makes the folder, the stage nothing"
    subprocess.run(["git", "checkout", "-q", "--", "params.yaml"], cwd=scratch, check=True)


@pytest.mark.parametrize("form", KIND_OF_FORMAT)
def test_another_format_tells_what_it_needs_and_what_it_has_not(form: str) -> None:
    """`-S dataset.format=...` alone: each of its own parameters is asked for, each of the demo's refused."""
    fields = KIND_OF_FORMAT[form].model_fields
    found = refusal(VALUES | {"dataset": VALUES["dataset"] | {"format": form}, "lr": "fast"})
    for name in fields.keys() - VALUES["dataset"].keys():
        assert (f"dataset.{name}: missing; add it" in found) == fields[name].is_required()
    for name in VALUES["dataset"].keys() - fields.keys():
        assert f"dataset.{name}: format {form} has no such parameter; leave it out" in found
