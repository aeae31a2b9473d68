"""Captions of a scene: each describes a part of the scene in its own words, and only what it shows."""

import numpy as np

from fsgr_model.config.dataset_params import Language
from fsgr_model.datasets.demo.chinese import ChineseSpeaker
from fsgr_model.datasets.demo.english import EnglishSpeaker
from fsgr_model.datasets.demo.scenes import Scene
from fsgr_model.datasets.demo.speaker import Relations, Speaker
from fsgr_model.datasets.demo.world_file import WorldSpec

SPEAKERS: dict[Language, type[Speaker]] = {"en": EnglishSpeaker, "zh": ChineseSpeaker}


def write_captions(
    world: WorldSpec,
    scene: Scene,
    relations: Relations,
    by_size: list[int],
    *,
    rng: np.random.Generator,
    language: Language = "en",
) -> list[str]:
    """As many captions as the world asks for, all different.

    Args:
        by_size: indices of the scene's groups, the largest in the picture first.
    """
    speaker = SPEAKERS[language](world, scene, relations, by_size, rng)
    captions: list[str] = []
    while len(captions) < world.captions.per_image:
        if (caption := speaker.caption()) not in captions:
            captions.append(caption)
    return captions
