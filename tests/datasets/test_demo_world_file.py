"""Mistakes in world.yaml are refused with one clear line."""

from pathlib import Path

import pytest

from fsgr_model.datasets.demo.world_file import load_world
from fsgr_model.runtime.errors import UserError

WORLD_FILE = Path("data/demo/world.yaml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[house, blue]", "[house, mauve]", "held_out.colours of house: unknown name 'mauve'"),
        ("[house, boat]", "[house, yacht]", "held_out.pairs: unknown name 'yacht'"),
        (
            "colours: [yellow, white, black, brown]",
            "colours: [pink]",
            "objects.dog.colours: unknown name 'pink'",
        ),
        (
            "{dog: dogs, puppy: puppies}",
            "{dog: dogs, kitten: kittens}",
            r"dog \(kitten\) and cat \(kitten\) share a noun",
        ),
        (
            "{lamp: lamps,",
            "{floor lamp: floor lamps,",
            r"lamp \(floor lamp\) and room \(floor\) share a noun",
        ),
        ("weather: [clear]", "weather: [foggy]", "unknown name 'foggy'"),
        (
            "    - [dog, white]",
            "    - [dog, white]\n    - [dog, black]\n    - [dog, brown]",
            "dog keeps fewer than two",
        ),
        ("zone: air", "zone: moon", "objects.bird.zone"),
        ("  side: 128", "  side: tiny", "image.side"),
        ("image:\n", "imag: {}\nimage:\n", "imag: Extra inputs"),
        ("image:\n", "image: [\n", "not valid YAML"),
    ],
)
def test_mistake_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = WORLD_FILE.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "world.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        load_world(tmp_path / "world.yaml")
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_world(tmp_path / "world.yaml")
