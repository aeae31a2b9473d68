"""What the committed metrics of the demo must show: who commits a run that lost it is told."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def metrics() -> dict[str, dict]:
    return {phase: json.loads(Path(f"metrics/{phase}.json").read_text()) for phase in ("xe", "scst")}


def test_scst_is_better_than_xe_and_does_not_cheat(metrics):
    assert metrics["scst"]["CIDEr"] > 1.05 * metrics["xe"]["CIDEr"]
    assert metrics["scst"]["bad_endings"] < 0.02


@pytest.mark.parametrize("phase", ["xe", "scst"])
def test_captions_name_what_is_there(metrics, phase):
    assert metrics[phase]["CHAIRi"] < 0.15


def test_label_maps_find_objects(metrics):
    assert metrics["xe"]["label_accuracy"] > 3 * metrics["xe"]["label_chance"]
    assert metrics["xe"]["label_accuracy"] > 2 * metrics["xe"]["label_majority"]
