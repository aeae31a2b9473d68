"""What annotators of every language have in common: which part of a scene a caption is about."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fsgr_model.datasets.demo.scenes import Group, Scene
from fsgr_model.datasets.demo.world_file import Patterns, Relation, Words, WorldSpec

Relations = Mapping[tuple[int, int], list[Relation]]


@dataclass(frozen=True)
class Speaker(ABC):
    """One annotator of one scene. `by_size`: the indices of the groups, the largest in the picture first."""

    world: WorldSpec
    scene: Scene
    relations: Relations
    by_size: list[int]
    rng: np.random.Generator

    @property
    @abstractmethod
    def patterns(self) -> Patterns:
        """The sentence patterns of the language."""

    @abstractmethod
    def fits(self, sentence: str) -> bool:
        """Whether it is neither too short nor too long for a caption."""

    @abstractmethod
    def finished(self, sentence: str, stop: bool) -> str:
        """The caption of a sentence, with a full stop or without."""

    @abstractmethod
    def fill(self, patterns: Words, named: list[int], relation: Relation | None = None) -> str:
        """One of the patterns, filled with groups given by their indices."""

    def caption(self) -> str:
        """One sentence, which mostly ends in a full stop."""
        while not self.fits(sentence := self._sentence()):
            pass
        return self.finished(sentence, stop=self.happens("stop"))

    def groups(self, named: list[int]) -> list[Group]:
        return [self.scene.groups[index] for index in named]

    def happens(self, what: str) -> bool:
        return bool(self.rng.random() < getattr(self.world.captions.chances, what))

    def zone_of(self, groups: list[Group]) -> str | None:
        """Where all of these groups are, on the ground or in the air; None if they differ."""
        zones = {self.world.objects[group.kind].zone for group in groups}
        return zones.pop() if len(zones) == 1 else None

    def _sentence(self) -> str:
        named = self._choose_groups()
        related = [(a, b, names) for a in named for b in named if a != b and (names := self.relations[a, b])]
        if related and self.happens("relation"):
            first, second, names = related[int(self.rng.integers(len(related)))]
            relation = names[int(self.rng.integers(len(names)))]
            return self.fill(self.patterns.related, [first, second], relation)
        if len(named) == 1 and self.rng.random() < 0.5:
            return self.fill(self.patterns.doing, named)
        return self.fill(self.patterns.listed, named)

    def _choose_groups(self) -> list[int]:
        if self.rng.random() < self.world.captions.all_things:
            return [int(index) for index in self.rng.permutation(self.by_size)]
        return self.by_size[: int(self.rng.integers(1, 3))]
