"""Every preset is a whole parameter file."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from fsgr_model.dataset_params import FILES_OF_FORMAT
from fsgr_model.params import load_params

ROOT = Path(__file__).parents[2]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
# Of these a dataset needs one, and only a CLIP trained from scratch has `training`.
ALTERNATIVES = {
    "clip.training",
    *(f"dataset.{files}" for files in FILES_OF_FORMAT.values()),
}


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
    assert {path.stem for path in PRESETS} >= {"coco", "flickr8k"}


@pytest.mark.parametrize("path", [*PRESETS, ROOT / "params.yaml"], ids=lambda path: path.stem)
def test_preset_loads_and_names_every_parameter(path: Path) -> None:
    assert unnamed(load_params(path)) - ALTERNATIVES == set()


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_preset_opens_with_its_command(path: Path) -> None:
    assert f"cp presets/{path.name} params.yaml && dvc repro" in path.read_text().splitlines()[0]


def test_every_value_of_the_coco_preset_has_its_source() -> None:
    lines = (ROOT / "presets" / "coco.yaml").read_text().splitlines()
    values = [line for line in lines if line and not line.startswith("#") and not line.endswith(":")]
    assert [line for line in values if " # " not in line] == []
