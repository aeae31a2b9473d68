"""Captions of a scene: each describes a part of the scene in its own words, and only what it shows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fsgr_model.datasets.demo.scenes import Group, Scene, pick
from fsgr_model.datasets.demo.world_file import BackgroundSpec, Relation, Words, WorldSpec

Relations = Mapping[tuple[int, int], list[Relation]]


@dataclass(frozen=True)
class Speaker:
    """One annotator of one scene. `by_size`: the indices of the groups, the largest in the picture first."""

    world: WorldSpec
    scene: Scene
    relations: Relations
    by_size: list[int]
    rng: np.random.Generator

    def caption(self) -> str:
        """One sentence that begins with a capital letter and mostly ends in a full stop."""
        fewest, most = self.world.captions.words
        while True:
            words = self._sentence().split()
            if fewest <= len(words) <= most:
                text = " ".join(words)
                stop = "." if self._happens("stop") else ""
                return text[0].upper() + text[1:] + stop

    def _sentence(self) -> str:
        named = self._choose_groups()
        related = [(a, b, names) for a in named for b in named if a != b and (names := self.relations[a, b])]
        if related and self._happens("relation"):
            first, second, names = related[int(self.rng.integers(len(related)))]
            return self._fill(
                self.world.captions.related, [first, second], names[int(self.rng.integers(len(names)))]
            )
        if len(named) == 1 and self.rng.random() < 0.5:
            return self._fill(self.world.captions.doing, named)
        return self._fill(self.world.captions.listed, named)

    def _choose_groups(self) -> list[int]:
        if self.rng.random() < self.world.captions.all_things:
            return [int(index) for index in self.rng.permutation(self.by_size)]
        return self.by_size[: int(self.rng.integers(1, 3))]

    def _fill(self, patterns: Words, named: list[int], relation: Relation | None = None) -> str:
        pattern = pick(patterns, self.rng)
        groups = [self.scene.groups[index] for index in named]
        phrases = [self._noun_phrase(group) for group in groups]
        values = {
            "things": _enumerate(phrases),
            "first": phrases[0],
            "second": phrases[-1],
            "is": "is" if groups[0].count == 1 else "are",
            "doing": self._doing(groups[0]),
            "relation": pick(self.world.relations[relation], self.rng) if relation else "",
            "place": self._place(groups) if "{place}" in pattern else "",
            "scene": pick(self._background.scenes, self.rng),
        }
        return pattern.format(**values) + self._weather()

    @property
    def _background(self) -> BackgroundSpec:
        return self.world.backgrounds[self.scene.background]

    def _noun_phrase(self, group: Group) -> str:
        """`two small red cars`"""
        nouns = self.world.objects[group.kind].nouns
        weights = {noun: 0.5**rank for rank, noun in enumerate(nouns)} | {next(iter(nouns)): 2.5}
        noun = pick(weights, self.rng)
        words = []
        if self._happens("adjective"):
            words.append(str(self.rng.choice(self.world.moods.adjectives)))
        if (sizes := self.world.sizes[group.size].words) and self._happens("size"):
            words.append(pick(sizes, self.rng))
        if self._happens("colour"):
            words.append(pick(self.world.colours[group.colour].words, self.rng))
        if group.count == 1:
            phrase = " ".join([*words, noun])
            return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"
        return " ".join([pick(self.world.count_words[group.count], self.rng), *words, nouns[noun]])

    def _doing(self, group: Group) -> str:
        posture = str(self.rng.choice(self.world.objects[group.kind].doing))
        if not self._happens("adverb"):
            return posture
        alone = len(self.scene.things) == 1
        adverbs = [word for word in self.world.moods.adverbs if alone or word != "alone"]
        return f"{posture} {self.rng.choice(adverbs)}"

    def _place(self, groups: list[Group]) -> str:
        zones = {self.world.objects[group.kind].zone for group in groups}
        ways = {"ground": self._background.on, "air": self._background.above}
        fitting = ways.get(zones.pop()) if len(zones) == 1 else None
        return pick(fitting if fitting and self.rng.random() < 0.6 else self._background.where, self.rng)

    def _weather(self) -> str:
        phrases = self.world.weather[self.scene.weather]
        return f" {pick(phrases, self.rng)}" if phrases and self._happens("weather") else ""

    def _happens(self, what: str) -> bool:
        return bool(self.rng.random() < getattr(self.world.captions.chances, what))


def write_captions(
    world: WorldSpec, scene: Scene, relations: Relations, by_size: list[int], *, rng: np.random.Generator
) -> list[str]:
    """As many captions as the world asks for, all different."""
    speaker = Speaker(world, scene, relations, by_size, rng)
    captions: list[str] = []
    while len(captions) < world.captions.per_image:
        if (caption := speaker.caption()) not in captions:
            captions.append(caption)
    return captions


def _enumerate(phrases: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`"""
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]]) if len(phrases) > 1 else phrases[0]
