"""What demo scenes show: held-out combinations, balance, and room for everything."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from fsgr_model.datasets.demo.scenes import Scene, pick, sample_scene
from fsgr_model.datasets.demo.world_file import load_world

WORLD_FILE = Path("data/demo/world.yaml")
WORLD = load_world(WORLD_FILE)


@pytest.fixture(scope="module")
def seen() -> list[Scene]:
    return [sample_scene(WORLD, np.random.default_rng([7, number]), "seen") for number in range(900)]


@pytest.fixture(scope="module")
def unseen() -> list[Scene]:
    return [sample_scene(WORLD, np.random.default_rng([8, number]), "unseen") for number in range(200)]


RULE = yaml.safe_load(WORLD_FILE.read_text(encoding="utf-8"))["held_out"]


def combinations_in_file(scene: Scene) -> list[list[str]]:
    """The file's held-out rule, read and applied without the project's code."""
    shown = {(group.kind, group.colour) for group in scene.groups}
    kinds = {kind for kind, _ in shown}
    return [pair for pair in RULE["colours"] if tuple(pair) in shown] + [
        pair for pair in RULE["pairs"] if pair[0] in kinds and pair[1] in kinds
    ]


def test_seen_scenes_hold_no_held_out_combination(seen: list[Scene]) -> None:
    assert [combinations_in_file(scene) for scene in seen] == [[]] * len(seen)


def test_every_unseen_scene_holds_a_held_out_combination(unseen: list[Scene]) -> None:
    found = [combinations_in_file(scene) for scene in unseen]
    assert all(found)
    assert {type_of for scene in found for type_of in (pair[1] in WORLD.objects for pair in scene)} == {
        True,
        False,
    }


def test_every_object_colour_and_background_is_seen_often(seen: list[Scene]) -> None:
    kinds = Counter(group.kind for scene in seen for group in scene.groups)
    colours = Counter(group.colour for scene in seen for group in scene.groups)
    backgrounds = Counter(scene.background for scene in seen)
    assert min(kinds[name] for name in WORLD.objects) > 0.6 * np.mean(list(kinds.values()))
    assert min(colours[name] for name in WORLD.colours) > 0.4 * np.mean(list(colours.values()))
    assert min(backgrounds[name] for name in WORLD.backgrounds) > 0.7 * np.mean(list(backgrounds.values()))


def test_each_group_has_its_things_and_each_kind_one_group(seen: list[Scene]) -> None:
    for scene in seen:
        assert Counter(thing.group for thing in scene.things) == {
            index: group.count for index, group in enumerate(scene.groups)
        }
        assert len({group.kind for group in scene.groups}) == len(scene.groups)
        assert len(scene.things) <= WORLD.scene.most_things
        assert scene.weather in WORLD.backgrounds[scene.background].weather


def test_things_on_the_ground_stand_below_the_horizon(seen: list[Scene]) -> None:
    for scene in seen:
        for thing in scene.things:
            if WORLD.objects[scene.groups[thing.group].kind].zone == "ground":
                assert thing.foot > scene.horizon


def test_a_seed_names_one_scene() -> None:
    one, same = (sample_scene(WORLD, np.random.default_rng([1, 2]), "seen") for _ in range(2))
    other = sample_scene(WORLD, np.random.default_rng([1, 3]), "seen")
    assert one == same != other


def test_a_key_is_picked_as_numpy_would_choose_it() -> None:
    chances = {"often": 3.0, "never": 0.0, "now and then": 1.1, "seldom": 0.4}
    ours, theirs = (np.random.default_rng(0) for _ in range(2))
    shares = np.array(list(chances.values())) / sum(chances.values())
    picked = [pick(chances, ours) for _ in range(500)]
    assert picked == [list(chances)[theirs.choice(4, p=shares)] for _ in range(500)]
    assert set(picked) == chances.keys() - {"never"}
