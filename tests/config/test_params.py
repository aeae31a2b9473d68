"""params.yaml: wrong values are refused in one line, and no parameter is a dead flag."""

import re
from pathlib import Path

import pytest
import yaml
from dvc.exceptions import InvalidArgumentError
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import parse_yaml as parse_for_dvc
from pydantic import BaseModel

from fsgr_model.config import dataset_params, params
from fsgr_model.config.dataset_params import PerSplit
from fsgr_model.config.model_params import SlotParams
from fsgr_model.config.params import Params, load_params
from fsgr_model.config.section import Section
from fsgr_model.runtime.artifacts import parse_yaml
from fsgr_model.runtime.errors import UserError

ROOT = Path(__file__).parents[2]


def write(tmp_path: Path, **changes: object) -> Path:
    """params.yaml with dotted names changed."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, value in changes.items():
        *sections, last = name.split("__")
        inner = values
        for section in sections:
            inner = inner[section]
        inner[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def message(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_params(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_rate_that_yaml_reads_as_text_is_a_number(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(re.sub(r"^lr: .*", "lr: 5e-06", (ROOT / "params.yaml").read_text(), flags=re.MULTILINE))
    assert isinstance(yaml.safe_load(path.read_text())["lr"], str)
    assert load_params(path).lr == 5e-6


@pytest.mark.parametrize("rate", [0.25, 0.025, 0, -1e-4, float("nan")])
def test_a_learning_rate_that_destroys_the_weights_is_refused(tmp_path, rate):
    assert "lr: Input should be" in message(write(tmp_path, lr=rate))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("xe__epoch", 3, "xe.epoch: unknown parameter (found 3); check its spelling"),
        ("xe__epochs", "many", "xe.epochs: Input should be a valid integer"),
        ("xe__epochs", 0, "xe.epochs: Input should be greater than or equal to 1 (found 0)"),
        ("xe__epochs", 2.5, "xe.epochs: Input should be a valid integer"),
        ("xe__contrast", {"weight": 0, "anchors": 9}, "xe.contrast.weight: Input should be greater than 0"),
        ("xe__alignment", {}, "xe.alignment.weight: missing; add it"),
        ("precision", "half", "precision: Input should be 'auto', 'bf16', 'fp16' or 'float32'"),
        (
            "model__memory",
            {"size": 32},
            "model.memory: needs a `kind`, one of 'prototypes', 'learned'; write",
        ),
        ("model__memory", {"kind": "prototypes", "size": 3}, "model.memory.window: missing; add it"),
        ("model__tail", {"adapters": False, "prompts": 0, "prompt_start": "random"}, "set model.tail: null"),
        ("scst__samples", 1, "scst.samples: Input should be greater than or equal to 2 (found 1)"),
        ("model__num_heads", 7, "d_model 128 must be a multiple of 4 and of num_heads 7"),
        ("model__dropout", 1.0, "model.dropout: Input should be less than 1 (found 1.0)"),
        ("dataset__format", "voc", "dataset.format: Input should be 'demo', 'coco'"),
        ("dataset__format", "coco", "dataset.captions: missing; add it"),
        ("dataset__captions", None, "dataset.captions: format demo has no such parameter; leave it out"),
        ("clip__training", None, "pretrained: demo needs clip.training"),
        ("decode", None, "decode: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_rule_and_value(tmp_path, name, value, expected):
    assert expected in message(write(tmp_path, **{name: value}))


def test_all_wrong_parameters_are_told_at_once(tmp_path):
    text = message(write(tmp_path, lr=1, xe__epochs=0, scst__lr="fast"))
    assert text.count("; ") == 2 and "lr:" in text and "xe.epochs:" in text and "scst.lr:" in text


def test_a_missing_parameter_is_named(tmp_path):
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    del values["model"]["d_model"]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    assert "model.d_model: missing; add it" in message(path)


def test_a_file_that_is_not_yaml_or_not_there(tmp_path):
    assert "does not exist" in message(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("lr: [1\n")
    assert "is not valid YAML" in message(tmp_path / "params.yaml")


# What YAML 1.1 and 1.2 read differently, and what both read alike.
VALUES = {
    "010": 10,
    "0o10": 8,
    "0x10": 16,
    "yes": "yes",
    "no": "no",
    "on": "on",
    "off": "off",
    "true": True,
    "1e-4": 1e-4,
    "5e-06": 5e-6,
    "1_000": 1000,
    "12:30:00": "12:30:00",
    "~": None,
    "null": None,
    "-0": 0,
    "089": 89,
    ".5": 0.5,
    "{010: off}": {10: "off"},
}


@pytest.mark.parametrize("text", VALUES)
def test_a_value_is_read_as_dvc_records_it(text):
    found = parse_yaml(f"seed: {text}", "params.yaml")
    assert found == {"seed": VALUES[text]} and type(found["seed"]) is type(VALUES[text])
    assert found == parse_for_dvc(f"seed: {text}", "params.yaml")


@pytest.mark.parametrize(
    ("before", "written", "name", "value"),
    [
        ("seed: 42", "seed: 010", "seed", 10),
        ("seed: 42", "seed: 0o10", "seed", 8),
        ("lr: 2.0e-3", "lr: 1e-4", "lr", 1e-4),
    ],
)
def test_a_parameter_is_the_number_that_dvc_records(tmp_path, before, written, name, value):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text().replace(f"\n{before}\n", f"\n{written}\n", 1))
    assert getattr(load_params(path), name) == parse_for_dvc(path.read_text(), path)[name] == value


def test_a_switch_may_be_written_in_words(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(
        (ROOT / "params.yaml").read_text().replace("patch_attention: true", "patch_attention: yes")
    )
    assert load_params(path).model.patch_attention is True


def test_a_time_is_no_number(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text() + "\nruntime:\n  save_minutes: 12:30:00\n")
    assert "runtime.save_minutes: Input should be a valid number" in message(path)


def test_a_parameter_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "params.yaml").write_text("lr: 1.0\nseed: 3\nlr: 2.0\n")
    assert 'line 3, column 1: found duplicate key "lr"' in message(tmp_path / "params.yaml")


def sections() -> list[type[BaseModel]]:
    named = [*vars(params).values(), *vars(dataset_params).values()]
    return [kind for kind in named if isinstance(kind, type) and issubclass(kind, Section)]


def test_every_parameter_is_read_somewhere():
    """Named in the code, or in dvc.yaml. What stands once a split is read by going through the splits."""
    code = "\n".join(
        path.read_text()
        for room in ("fsgr_model", "pipeline")
        for path in (ROOT / room).rglob("*.py")
        if path.parent.name != "config"
    )
    watched = (ROOT / "dvc.yaml").read_text()
    dead = [
        f"{section.__name__}.{name}"
        for section in sections()
        for name in section.model_fields
        if section is not PerSplit
        and not re.search(rf"\.{name}\b", code)
        and f"dataset.{name}" not in watched
    ]
    assert not dead


# Their fields say all by their names: a split each, or an epoch and its factor.
WITHOUT = ("DecayStep", "PerSplit", "ShardParams")


def test_every_parameter_has_a_sentence():
    for section in sections():
        for name, field in section.model_fields.items():
            inner = field.annotation
            is_section = isinstance(inner, type) and issubclass(inner, Section)
            assert field.description or is_section or section.__name__ in WITHOUT, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model__memory": "none", "model__memory_size": 64},
            "model.memory, model.memory_size: write model.memory: null",
        ),
        (
            {"model__memory_window": 9},
            "model.memory_window: write model.memory: null, {kind: prototypes, size, window",
        ),
        ({"model__prompts": 0}, "model.prompts: write model.tail: null or {adapters, prompts, prompt_start}"),
        ({"xe__contrast_weight": 0}, "xe.contrast_weight: write xe.contrast: null or {weight, anchors}"),
        ({"xe__alignment": "progressive"}, "xe.alignment: write xe.alignment: null or {weight}"),
        ({"xe__optimiser": "muon", "xe__decay": []}, "xe.optimiser: write optimiser: {name, weight_decay"),
        ({"decode__batch_size": 50}, "decode.batch_size: write runtime.caption_batch, or nothing for 50"),
    ],
)
def test_a_file_of_an_older_version_is_told_what_moved(tmp_path, changes, message):
    with pytest.raises(UserError, match="is of an older version of this project: ") as caught:
        load_params(write(tmp_path, **changes))
    assert message in str(caught.value) and "\n" not in str(caught.value)


# All that a file of the layout before had and today's has not: dotted names.
GONE = """
    dataset.images dataset.captions dataset.karpathy_file dataset.m2 dataset.table dataset.shards
    dataset.instances dataset.on_bad_image dataset.on_duplicate_image labels.prompt_denoising
    labels.key_smoothing vocab.count_in vocab.file xe.train_images xe.precision xe.optimiser
    xe.warmup_epochs xe.decay xe.visual_lr_factor xe.weight_decay xe.grad_clip_norm
    scst.train_images scst.precision scst.optimiser scst.warmup_epochs scst.decay
    scst.visual_lr_factor scst.weight_decay scst.grad_clip_norm decode.batch_size decode.precision
    evaluate.meteor evaluate.tokenizer evaluate.spice
"""


def test_every_moved_parameter_of_an_old_file_is_told_at_once():
    """tests/config/older.yaml is the demo's params.yaml as it was."""
    path = ROOT / "tests" / "config" / "older.yaml"
    known = Params.model_validate(yaml.safe_load((ROOT / "params.yaml").read_text())).model_dump()
    old = [name for name in dotted(yaml.safe_load(path.read_text())) if not is_there(known, name)]
    assert sorted([*old, "scst.optimiser"]) == sorted(GONE.split())
    found = message(path)
    told = [part for part in re.split(r"[,;] |: ", found) if re.fullmatch(r"\w+\.\w+", part)]
    assert sorted(told) == sorted(GONE.split())
    assert found.count(": write ") == 10 and found.count(": leave out, format demo has none of them") == 1


def dotted(values, prefix=""):
    for name, value in values.items():
        yield from dotted(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]


def is_there(values, name):
    for part in name.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def test_dvc_says_in_one_line_how_a_value_gets_into_null(tmp_path):
    with pytest.raises(InvalidArgumentError) as caught:
        apply_overrides(write(tmp_path), ["xe.contrast.weight=0.1"])
    assert "To append to your config use +xe.contrast.weight=0.1" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    "changes",
    [["model.memory={kind: learned, size: 64}"], ["+model.memory.kind=learned", "+model.memory.size=64"]],
)
def test_an_experiment_makes_a_section_that_is_null(tmp_path, changes):
    path = write(tmp_path)
    apply_overrides(path, changes)
    assert load_params(path).model.memory == SlotParams(kind="learned", size=64)


def test_a_section_that_an_experiment_left_unfinished_is_told(tmp_path):
    path = write(tmp_path)
    apply_overrides(path, ["+xe.contrast.weight=0.1"])
    with pytest.raises(UserError, match=r"xe\.contrast\.anchors: missing; add it"):
        load_params(path)
