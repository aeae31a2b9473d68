"""Pages and files that are written by a program are as it would write them now."""

from collections.abc import Iterator
from typing import Any, Literal

import pytest
import yaml
from pydantic import Field

from fsgr_model.config.section import Count, Section
from tests.listings import commands, errors, licences, lowest, parameters


def test_errors_are_those_of_the_code() -> None:
    assert errors.PAGE.read_text(encoding="utf-8") == errors.page(), "run python -m tests.listings.errors"


def test_parameters_are_those_of_the_code() -> None:
    assert parameters.PAGE.read_text(encoding="utf-8") == parameters.page(), (
        "run python -m tests.listings.parameters"
    )


def test_every_parameter_of_the_project_is_on_the_page() -> None:
    """Each leaf of params.yaml, whatever the page's writer makes of its type."""
    page = parameters.PAGE.read_text(encoding="utf-8")
    values = yaml.safe_load((parameters.ROOT / "params.yaml").read_text(encoding="utf-8"))
    names = [*leaves(values)]
    assert len(names) > 50
    assert not [name for name in names if f"\n| `{name}` |" not in page]


def leaves(values: dict[str, Any], section: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{section}{name}.")
        else:
            yield f"{section}{name}"


class Wide(Section):
    """A wide one."""

    kind: Literal["wide"] = Field(description="how")
    width: int = Field(description="of it")


class Narrow(Section):
    """A narrow one."""

    kind: Literal["narrow"] = Field(description="how")


class Undescribed(Section):
    """Told where it is used."""

    epoch: Count
    factor: float


class Toy(Section):
    """A toy."""

    part: Wide | Narrow | None = Field(None, description="the part")
    steps: list[Undescribed] = Field([], description="the steps")


def test_optional_sections_and_small_ones_are_told() -> None:
    """Two kinds of one part; their values of params.yaml stand with the kind that has them."""
    page = "".join(parameters.section("", Toy, {"part": {"kind": "wide", "width": 7}, "steps": []}))
    assert "| `part` | null or a section (below) | `null` | below | the part |" in page
    assert page.count("## `part`") == 2 and "A wide one." in page and "A narrow one." in page
    assert "| `part.width` | integer |  | `7` | of it |" in page
    assert "| `part.kind` | `narrow` |  |  | how |" in page
    assert "| `steps` | list of map of `epoch` (integer, at least 1) and `factor` (number) | `[]` |" in page


def test_commands_are_those_of_the_code() -> None:
    assert commands.PAGE.read_text(encoding="utf-8") == commands.page(), (
        "run python -m tests.listings.commands"
    )


def test_lowest_requirements_are_the_lower_bounds() -> None:
    requirements = (lowest.ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert lowest.PAGE.read_text(encoding="utf-8") == lowest.page(requirements)


@pytest.mark.parametrize("line", ["numpy", "numpy>=1.26", "numpy>=1.26,<3", "numpy<3  # arrays"])
def test_a_requirement_without_bounds_or_reason_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="no lower and upper bound with a reason"):
        lowest.page(line)


def test_every_direct_dependency_has_its_licence_listed() -> None:
    page = licences.PAGE.read_text(encoding="utf-8")
    installed = licences.closure(licences.direct())
    for name in licences.direct():
        assert licences.row(name, installed[name]) in page, f"{name}: run python -m tests.listings.licences"


def test_copyleft_is_explained() -> None:
    """Packages under the GPL alone are named on the page, with why they do not bind the project."""
    head, _, rows = licences.PAGE.read_text(encoding="utf-8").partition("|---|---|---|\n")
    fields = [[field.strip() for field in line.split("|")[1:3]] for line in rows.splitlines()]
    assert len(fields) > 50
    bound = [name for name, terms in fields if "GPL" in terms and "LGPL" not in terms and " OR " not in terms]
    assert bound
    assert all(f"`{name}`" in head for name in bound), bound


IMPORTANT = {
    "fsgr_model/runtime/artifacts.py": "{path} does not exist; check the path, or run the stage that",
    "fsgr_model/config/params.py": "{path} does not exist; run this from the project's root",
    "fsgr_model/runtime/tensor_file.py": "{path} holds no checksum: it is not a file of this project",
    "fsgr_model/datasets/reading.py": "dataset.root: there is no folder {root}; put the dataset or a link",
    "fsgr_model/datasets/contract.py": "captions of unknown images: ",
    "fsgr_model/datasets/image_check.py": "set dataset.on_bad_image: skip to leave them out everywhere",
    "fsgr_model/training/loop.py": ": not finite, so training stops{kept}; try a smaller learning rate",
    "fsgr_model/runtime/folder_lock.py": "this same run is already under way in {where}; wait",
    "fsgr_model/runtime/row_store.py": "was made with another {key}: the file says",
    "fsgr_model/network/assembly.py": "was written by a newer version of this project: format",
}


@pytest.mark.parametrize("module", IMPORTANT)
def test_the_wording_of_an_important_message(module: str) -> None:
    said = [text for _, text in errors.messages(errors.ROOT / module)]
    assert any(IMPORTANT[module] in text for text in said), said
