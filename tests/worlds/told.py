"""Scenes of the demo world, with their pictures and captions."""

from dataclasses import dataclass

import numpy as np

from fsgr_model.config.dataset_params import Language
from fsgr_model.datasets.demo.grammar import write_captions
from fsgr_model.datasets.demo.pictures import Picture, draw_scene
from fsgr_model.datasets.demo.relations import find_relations
from fsgr_model.datasets.demo.scenes import Scene, sample_scene
from fsgr_model.datasets.demo.world_file import WorldSpec


@dataclass(frozen=True)
class Told:
    """A scene, its picture and its captions."""

    scene: Scene
    picture: Picture
    captions: list[str]


def tell(world: WorldSpec, count: int, language: Language = "en") -> list[Told]:
    """So many scenes, every fifth with a combination that training does not show."""
    return [_tell(world, number, language) for number in range(count)]


def _tell(world: WorldSpec, number: int, language: Language) -> Told:
    scene_rng, paint_rng, words_rng = np.random.default_rng([3, number]).spawn(3)
    scene = sample_scene(world, scene_rng, "unseen" if number % 5 == 0 else "seen")
    picture = draw_scene(scene, world.image, paint_rng)
    relations, groups = find_relations(scene, picture), list(range(len(scene.groups)))
    captions = write_captions(world, scene, relations, groups, rng=words_rng, language=language)
    return Told(scene, picture, captions)
