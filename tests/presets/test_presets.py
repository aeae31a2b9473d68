"""Every preset is a whole parameter file."""

import re
from pathlib import Path
from statistics import mean, stdev

import pytest
import yaml
from pydantic import BaseModel

from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.config.model_params import PrototypeParams
from fsgr_model.config.params import load_params

ROOT = Path(__file__).parents[2]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
# No result depends on `runtime`, and only a CLIP trained from scratch has `training`.
UNTRACKED = ("clip.training", "runtime")


def leaves(values: object) -> int:
    """Values at the end of a path; a list is one."""
    return sum(map(leaves, values.values())) if isinstance(values, dict) else 1


# Of parts that came later: a newcomer reads seventy parameters without them, and never more than ninety.
LATER = (
    "clip.preprocess_as",
    "clip.cache_dtype",
    "scst.reward",
    "scst.baseline",
    "decode.length",
    "decode.words",
    "decode.groups",
    "decode.sampling",
    "text.tokenizer",
    "on_track.xe",
    "on_track.scst",
    "dataset.demo.language",
    "ensemble",
)


def test_a_newcomer_reads_at_most_seventy_parameters() -> None:
    count = leaves(yaml.safe_load((ROOT / "params.yaml").read_text()))
    assert count - len(LATER) <= 70 and count <= 90


def unnamed(section: BaseModel, prefix: str = "") -> set[str]:
    """Dotted names of the parameters that the file leaves to their defaults: `-S` cannot change those."""
    names: set[str] = set()
    for name in type(section).model_fields:
        if name not in section.model_fields_set:
            names.add(prefix + name)
        elif isinstance(value := getattr(section, name), BaseModel):
            names |= unnamed(value, f"{prefix}{name}.")
    return names


def test_there_are_presets() -> None:
    assert {path.stem for path in PRESETS} >= {"coco", "coco_vitl", "flickr8k", "flickr30k", "nocaps"}


@pytest.mark.parametrize("path", [*PRESETS, ROOT / "params.yaml"], ids=lambda path: path.stem)
def test_preset_loads_and_names_every_parameter(path: Path) -> None:
    assert [name for name in unnamed(load_params(path)) if not name.startswith(UNTRACKED)] == []


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_preset_opens_with_its_command(path: Path) -> None:
    assert f"cp presets/{path.name} params.yaml && dvc repro" in path.read_text().splitlines()[0]


@pytest.mark.parametrize("name", ["coco", "coco_pe", "coco_siglip2", "coco_vitl", "flickr30k", "nocaps"])
def test_every_value_of_a_recipe_has_its_source(name: str) -> None:
    lines = (ROOT / "presets" / f"{name}.yaml").read_text().splitlines()
    values = [line for line in lines if line and not line.startswith("#") and not line.endswith(":")]
    assert [line for line in values if " # " not in line] == []


# Steps of half an epoch: training images / batch / 2.
HALF_EPOCHS = {
    **dict.fromkeys(("coco", "coco_pe", "coco_siglip2", "coco_vitl"), 113_287),
    "flickr30k": 29_000,
    "nocaps": 118_287,
}


@pytest.mark.parametrize(("name", "images"), HALF_EPOCHS.items())
def test_prototypes_are_renewed_twice_an_epoch(name: str, images: int) -> None:
    """The prototypes of PMA-Net that stand in a remark, to be copied."""
    path = ROOT / "presets" / f"{name}.yaml"
    remark = re.search(r"memory: null .* has (\{.*\})", path.read_text())
    assert remark is not None
    memory = PrototypeParams.model_validate(yaml.safe_load(remark[1]))
    assert memory.refresh == images // load_params(path).xe.batch_size // 2


def test_the_large_clip_is_cut_at_half_of_its_blocks() -> None:
    for name in ("coco", "coco_vitl"):
        clip = load_params(ROOT / "presets" / f"{name}.yaml").clip
        assert 2 * clip.cut == open_clip.get_model_config(clip.model)["vision_cfg"]["layers"]


def test_the_ranges_of_the_demo_are_three_deviations_around_its_seeds() -> None:
    """As docs/experiments/learning.md says, from its own table."""
    text = (ROOT / "docs" / "experiments" / "learning.md").read_text()
    rows = re.findall(r"^\| seed \d+ \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)
    assert len(rows) == 3
    on_track = load_params(ROOT / "params.yaml").on_track
    found = [(each.epoch, each.low, each.high) for each in [*on_track.xe, *on_track.scst]]
    for (epoch, low, high), column, of in zip(found, zip(*rows, strict=True), (1, 2, 1), strict=True):
        scores = [float(cell) for cell in column]
        middle, spread = mean(scores), 3 * stdev(scores)
        assert (epoch, low, high) == (
            of,
            *(pytest.approx(middle + side, abs=0.006) for side in (-spread, spread)),
        )
        assert all(low < score < high for score in scores)
        assert f"{low:g} to {high:g}" in text
