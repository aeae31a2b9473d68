"""What the captions of unseen pictures say of things and their colours."""

from pathlib import Path

import pytest

from bench.held_out import said_looks
from fsgr_model.datasets.demo.world_file import load_world

WORLD = load_world(Path("data/demo/world.yaml"))


@pytest.mark.parametrize(
    ("caption", "looks"),
    [
        ("a brown cat beside three crimson balloons", [("cat", "brown"), ("balloon", "red")]),
        ("two kittens on a green meadow", [("cat", "")]),
        ("a purple bike and a bird", [("bicycle", "purple"), ("bird", "")]),
        ("a yellow small kite", [("kite", "yellow")]),
    ],
)
def test_a_thing_has_the_colour_said_before_it(caption: str, looks: list[tuple[str, str]]) -> None:
    assert list(said_looks(caption.split(), WORLD)) == looks
