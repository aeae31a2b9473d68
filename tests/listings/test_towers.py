"""The page of CLIPs is as its program would write it now."""

import pytest

from fsgr_model.clip.open_clip_api import open_clip
from tests.listings import towers

# One of each kind that is built in less than a second.
SOME = ["MobileCLIP2-S0", "PE-Core-T-16-384", "ViT-S-32", "ViT-B-32-SigLIP2-256", "ViTamin-S"]


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return towers.PAGE.read_text(encoding="utf-8").splitlines(keepends=True)


def test_every_architecture_has_a_row(lines: list[str]) -> None:
    listed = [line.split("`")[1] for line in lines if line.startswith("| `")][1:]
    assert listed == open_clip.list_models(), "run python -m tests.listings.towers"


def test_refusals_have_no_tags(lines: list[str]) -> None:
    """At least 95% of all tags work: here all of them do."""
    refused = [line for line in lines if line.startswith("| `") and not line.endswith("| yes |\n")][1:]
    assert all(" refused: " in line and line.split("|")[2].strip() == "0" for line in refused), refused


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SOME, "vit_relpos_medium_patch16_cls_224"])
def test_some_rows(name: str, lines: list[str]) -> None:
    assert towers.row(name) in lines, "run python -m tests.listings.towers"


@pytest.mark.nightly
def test_all_of_the_page(lines: list[str]) -> None:
    assert "".join(lines) == towers.page()
