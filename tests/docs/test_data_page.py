"""What docs/howto/formats.md prints as parameters are parameters."""

import re
from pathlib import Path

import pytest
import yaml

from fsgr_model.config.dataset_params import KIND_OF_FORMAT
from tests.worlds.small_dataset import dataset_params

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "formats.md").read_text()
SECTIONS = [
    block["dataset"]
    for block in map(yaml.safe_load, re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
    if "dataset" in block
]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section["root"])
def test_a_section_is_valid(section: dict[str, object]) -> None:
    dataset_params(section)


def test_every_format_has_a_section() -> None:
    assert {section["format"] for section in SECTIONS} == KIND_OF_FORMAT.keys() - {"demo"}
