"""data/demo/world.yaml as typed, checked values: everything that demo pictures and captions can contain."""

from collections.abc import Collection, Iterable
from itertools import combinations, product
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from fsgr_model.config.dataset_params import Language
from fsgr_model.config.section import Section
from fsgr_model.runtime.artifacts import load_yaml
from fsgr_model.runtime.errors import UserError

Chance = Annotated[float, Field(ge=0, le=1)]
Words = dict[str, Chance]
Zone = Literal["ground", "air"]
Relation = Literal["left of", "right of", "above", "under", "next to", "in front of", "behind"]


class ImageSpec(Section):
    """Size of a picture in pixels."""

    side: Annotated[int, Field(ge=32)]
    supersampling: Annotated[int, Field(ge=1, le=8)]
    raster: Annotated[int, Field(ge=1)]


class SceneSpec(Section):
    """How scenes are composed; `pretraining_groups`: those of CLIP's own pictures."""

    groups: dict[int, Chance]
    pretraining_groups: dict[int, Chance]
    counts: dict[int, Chance]
    most_things: int
    most_overlap: Chance
    tilt_degrees: float
    mirrored: float
    shade_jitter: int


class SizeSpec(Section):
    """A size: its share of the picture's side, how often it is sampled, and its adjectives."""

    share: tuple[float, float]
    chance: Chance
    words: Words


class ColourSpec(Section):
    """A colour and its adjectives."""

    rgb: tuple[int, int, int]
    words: Words


class ObjectSpec(Section):
    """A kind of object: where it may be, its colours, its nouns (singular to plural) and what it does."""

    zone: Zone
    colours: list[str]
    nouns: dict[str, str]
    doing: list[str]


class BackgroundSpec(Section):
    """A kind of place: its nouns, its weather, and the phrases that say where things are."""

    nouns: list[str]
    weather: list[str]
    where: Words
    on: Words
    above: Words
    scenes: Words


class MoodSpec(Section):
    """Rare words."""

    adjectives: list[str]
    adverbs: list[str]


class ChanceSpec(Section):
    """How often a caption mentions what it could mention."""

    colour: Chance
    size: Chance
    relation: Chance
    weather: Chance
    adjective: Chance
    adverb: Chance
    stop: Chance


class Patterns(Section):
    """Sentence patterns with their chances: of things in a place, of what one does, of a relation of two."""

    listed: Words
    doing: Words
    related: Words


class CaptionSpec(Patterns):
    """The grammar of English, and how much a caption of any language says."""

    per_image: int
    words: tuple[int, int]
    all_things: Chance
    chances: ChanceSpec


class HeldOutSpec(Section):
    """Combinations that only unseen test scenes show: (object, colour) and (object, object)."""

    colours: list[tuple[str, str]]
    pairs: list[tuple[str, str]]


class ChineseObject(Section):
    """A kind of object in Chinese: its measure words, its nouns, and verbs that 在 or 着 can follow."""

    measure: Words
    nouns: Annotated[list[str], Field(min_length=1)]
    doing: list[str]


class ChinesePlace(Section):
    """A kind of place in Chinese; the fields of `BackgroundSpec`, without the weather."""

    nouns: Annotated[list[str], Field(min_length=1)]
    where: Words
    on: Words
    above: Words
    scenes: Words


class ChineseSpec(Patterns):
    """The grammar of Chinese, with a word for all that the world shows.

    `alone`: the adverb that is said only of what is alone; `characters`: fewest and most in a caption.
    """

    sizes: dict[str, Words]
    colours: dict[str, Words]
    objects: dict[str, ChineseObject]
    backgrounds: dict[str, ChinesePlace]
    weather: dict[str, Words]
    relations: dict[Relation, Words]
    count_words: dict[int, Words]
    moods: MoodSpec
    alone: str
    characters: tuple[int, int]


class WorldSpec(Section):
    """All of world.yaml."""

    image: ImageSpec
    scene: SceneSpec
    sizes: dict[str, SizeSpec]
    colours: dict[str, ColourSpec]
    objects: dict[str, ObjectSpec]
    backgrounds: dict[str, BackgroundSpec]
    weather: dict[str, Words]
    relations: dict[Relation, Words]
    count_words: dict[int, Words]
    moods: MoodSpec
    captions: CaptionSpec
    held_out: HeldOutSpec
    chinese: ChineseSpec | None = None

    @model_validator(mode="after")
    def _names_exist(self) -> "WorldSpec":
        for name, kind in self.objects.items():
            _known(kind.colours, self.colours, f"objects.{name}.colours")
        for name, place in self.backgrounds.items():
            _known(place.weather, self.weather, f"backgrounds.{name}.weather")
        for name, colour in self.held_out.colours:
            _known([name], self.objects, "held_out.colours")
            _known([colour], self.objects[name].colours, f"held_out.colours of {name}")
        for pair in self.held_out.pairs:
            _known(pair, self.objects, "held_out.pairs")
        return self

    @model_validator(mode="after")
    def _nouns_are_unambiguous(self) -> "WorldSpec":
        for (one, its), (other, theirs) in combinations(self.synonyms().items(), 2):
            for noun, also in product(its, theirs):
                if f" {noun} " in f" {also} " or f" {also} " in f" {noun} ":
                    raise ValueError(
                        f"{one} ({noun}) and {other} ({also}) share a noun; each names one concept"
                    )
        return self

    @model_validator(mode="after")
    def _training_keeps_colours(self) -> "WorldSpec":
        for name in self.objects:
            if len(self.training_colours(name)) < 2:
                raise ValueError(f"{name} keeps fewer than two colours for training; hold out fewer")
        return self

    def training_colours(self, kind: str) -> list[str]:
        """The colours of a kind that training shows."""
        return [
            colour for colour in self.objects[kind].colours if (kind, colour) not in self.held_out.colours
        ]

    def nouns(self, language: Language) -> dict[str, list[str]]:
        """The name of each object and background in a language, then every other noun that captions use.

        Raises:
            UserError: the file has no words of this language, lacks some, or two concepts share a noun.
        """
        return self.synonyms() if language == "en" else self._chinese_nouns()

    def _chinese_nouns(self) -> dict[str, list[str]]:
        if (words := self.chinese) is None:
            raise UserError(
                "dataset.demo.language is zh, but the world file has no section `chinese`; take that of "
                "data/demo/world.yaml, or set dataset.demo.language: en"
            )
        for name in ("sizes", "colours", "objects", "backgrounds", "weather"):
            if missing := [each for each in getattr(self, name) if each not in getattr(words, name)]:
                raise UserError(
                    f"dataset.demo.language is zh, but chinese.{name} of the world file has no words for "
                    f"{missing[0]!r}; add them"
                )
        kinds = {name: words.objects[name].nouns for name in self.objects}
        found = kinds | {name: words.backgrounds[name].nouns for name in self.backgrounds}
        for (one, its), (other, theirs) in combinations(found.items(), 2):
            for noun, also in product(its, theirs):
                if noun in also or also in noun:
                    raise UserError(
                        f"chinese nouns of the world file: {one} ({noun}) and {other} ({also}): one noun "
                        "holds the other; each names one concept"
                    )
        return found

    def synonyms(self) -> dict[str, list[str]]:
        """Every noun, singular and plural, that captions use for each object and background."""
        objects = {
            name: list(dict.fromkeys([name, *kind.nouns, *kind.nouns.values()]))
            for name, kind in self.objects.items()
        }
        return objects | {
            name: list(dict.fromkeys([name, *place.nouns])) for name, place in self.backgrounds.items()
        }


def _known(names: Iterable[str], among: Collection[str], where: str) -> None:
    if unknown := [name for name in names if name not in among]:
        raise ValueError(f"{where}: unknown name {unknown[0]!r}; known are {', '.join(among)}")


def load_world(path: Path) -> WorldSpec:
    """Read and check the world file.

    Raises:
        UserError: the file is missing, is not YAML, or a name or number in it is wrong.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; dataset.root must be the folder that holds the world file")
    try:
        return WorldSpec.model_validate(load_yaml(path))
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg']}" for each in error.errors()
        )
        raise UserError(f"{path}: " + "; ".join(problems)) from None
