"""Drawings: every object in every colour looks like that colour, and curves go where they should."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fsgr_model.datasets.demo.backdrops import paint_backdrop
from fsgr_model.datasets.demo.drawing import arc_points, smooth
from fsgr_model.datasets.demo.pictures import draw_scene
from fsgr_model.datasets.demo.scenes import Group, Scene, Thing, sample_scene
from fsgr_model.datasets.demo.world_file import load_world

WORLD = load_world(Path("data/demo/world.yaml"))


def scene_of(kind: str, colour: str) -> Scene:
    thing = Thing(0, 0.5, 0.9, 0.6, tilt=5.0, mirrored=True, stands=True, rgb=WORLD.colours[colour].rgb)
    return Scene("snow", "clear", 0.5, (Group(kind, colour, "large", 1),), (thing,))


@pytest.mark.parametrize("kind", WORLD.objects)
def test_colour_is_recognisable_and_the_thing_large_enough(kind: str) -> None:
    """Of the pixels near any colour that the kind may have, most are near its own."""
    colours = WORLD.objects[kind].colours
    palette = np.array([WORLD.colours[name].rgb for name in colours], dtype=float)
    for index, colour in enumerate(colours):
        picture = draw_scene(scene_of(kind, colour), WORLD.image, np.random.default_rng(0))
        pixels = np.asarray(picture.image, dtype=float)[picture.visible[0]]
        assert len(pixels) > 0.1 * 0.36 * WORLD.image.side**2
        distance = np.linalg.norm(pixels[:, None] - palette[None], axis=2)
        close = distance.min(axis=1) < 60
        votes = np.bincount(distance.argmin(axis=1)[close], minlength=len(colours))
        assert votes.argmax() == index, (kind, colour, votes)


def test_the_later_thing_hides_the_earlier() -> None:
    scene = scene_of("house", "red")
    front = replace(scene.things[0], x=0.6, rgb=(0, 0, 255))
    picture = draw_scene(
        replace(scene, things=(scene.things[0], front)), WORLD.image, np.random.default_rng(0)
    )
    both = picture.whole[0] & picture.whole[1]
    assert both.any()
    assert not (picture.visible[0] & both).any()
    assert np.array_equal(picture.visible[1], picture.whole[1])
    assert np.array_equal(picture.background, ~(picture.whole[0] | picture.whole[1]))


def test_most_of_each_thing_is_visible() -> None:
    shares = []
    for number in range(150):
        scene = sample_scene(WORLD, np.random.default_rng([4, number]), "seen")
        picture = draw_scene(scene, WORLD.image, np.random.default_rng(number))
        shares += [v.sum() / w.sum() for v, w in zip(picture.visible, picture.whole, strict=True)]
    assert min(shares) > 0.4
    assert np.mean(shares) > 0.95
    assert sum(share < 0.95 for share in shares) > 10  # overlaps happen


@pytest.mark.parametrize("name", WORLD.backgrounds)
def test_backdrops_vary(name: str) -> None:
    weather = WORLD.backgrounds[name].weather[0]
    one, other = (
        np.asarray(paint_backdrop(name, weather, 0.5, 96, rng=np.random.default_rng(n)), float)
        for n in (1, 2)
    )
    assert one.shape == (96, 96, 3)
    assert np.abs(one - other).mean() > 2


def test_smooth_curves_pass_through_their_points() -> None:
    points = [(0.1, 0.2), (0.5, 0.9), (0.8, 0.3), (0.4, 0.1)]
    for closed in (True, False):
        path = np.array(smooth(points, closed))
        gaps = [np.linalg.norm(path - point, axis=1).min() for point in points]
        assert max(gaps) < 1e-9


def test_arcs_lie_on_their_ellipse() -> None:
    path = np.array(arc_points((0.4, 0.5), (0.3, 0.1), start=20, end=200))
    assert np.allclose(((path[:, 0] - 0.4) / 0.3) ** 2 + ((path[:, 1] - 0.5) / 0.1) ** 2, 1)
    turned = np.array(arc_points((0.4, 0.5), (0.3, 0.1), start=0, end=360, turn=90))
    assert np.ptp(turned[:, 1]) == pytest.approx(0.6, abs=0.01)
