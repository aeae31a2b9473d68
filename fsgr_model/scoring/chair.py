"""CHAIR: objects that a caption names although the image has none (Rohrbach et al., arXiv 1809.02156)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from fsgr_model.scoring.caption_tokens import Tokenizer, tokens_of
from fsgr_model.scoring.coco_synonyms import COCO_OTHER_PHRASES, COCO_SYNONYMS
from fsgr_model.text.scripts import script_without_spaces

BACKGROUND = "background"
IRREGULAR_PLURALS = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "mouse": "mice",
    "goose": "geese",
    "ox": "oxen",
    "foot": "feet",
    "tooth": "teeth",
    "human": "humans",
    "knife": "knives",
    "calf": "calves",
    "leaf": "leaves",
    "sheep": "sheep",
    "fish": "fish",
    "aircraft": "aircraft",
    "luggage": "luggage",
    "cattle": "cattle",
    "skis": "skis",
    "scissors": "scissors",
}
ENDINGS_WITH_MAN = ("man", "woman")
# Chinese numbers and measure words; segmenters have some together with a noun as one word, such as 一朵花.
NUMBERS, MEASURES = "一两三四五六七八九十几", "个只条头匹辆架艘把张朵棵株座栋盏顶台部瓶杯块片本双位名"
COUNTED = tuple(map("".join, product(NUMBERS, MEASURES)))


@dataclass(frozen=True)
class ChairScore:
    """How many objects each caption names, and how many of those it invents, in the order of the results."""

    named: list[int]
    invented: list[int]

    @property
    def per_instance(self) -> float:
        """CHAIRi: share of object mentions that are hallucinated."""
        return sum(self.invented) / max(sum(self.named), 1)

    @property
    def per_sentence(self) -> float:
        """CHAIRs: share of captions with at least one such mention."""
        return sum(map(bool, self.invented)) / max(len(self.invented), 1)


def plural(noun: str) -> str:
    """The plural of an English noun, or of the last word of a phrase."""
    head, _, last = noun.rpartition(" ")
    space = " " if head else ""
    if last in IRREGULAR_PLURALS:
        return head + space + IRREGULAR_PLURALS[last]
    if last.endswith(ENDINGS_WITH_MAN):
        return head + space + last[:-2] + "en"
    if last.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if last.endswith("y") and last[-2:-1] not in tuple("aeiou"):
        return noun[:-1] + "ies"
    return noun + "s"


class ObjectNames:
    """Finds object categories in captions.

    A category is found by its name, its `synonyms` where the instance file has some, or else by our list of
    other words for the COCO categories; in singular and plural, in Chinese also as one word with its number.
    The longest name that matches counts: "hot dog" is not a dog. Categories of the supercategory "background"
    are not objects.
    """

    def __init__(self, categories: Iterable[dict[str, Any]], tokenizer: Tokenizer = "python") -> None:
        self._tokenizer: Tokenizer = tokenizer
        self.objects = {
            category["id"]: category["name"]
            for category in categories
            if category.get("supercategory") != BACKGROUND
        }
        # A phrase that means no object stands for None.
        self._phrases: dict[tuple[str, ...], int | None] = {}
        for phrase in COCO_OTHER_PHRASES:
            self._add(phrase, None)
        for category in categories:
            if category["id"] in self.objects:
                names = category.get("synonyms") or COCO_SYNONYMS.get(category["name"], [])
                for name in [category["name"], *names]:
                    self._add(name, category["id"])
        self._longest = max(map(len, self._phrases))

    @property
    def phrases(self) -> dict[tuple[str, ...], int | None]:
        """Every name as tokens, with the category id that it means; None: no object."""
        return self._phrases

    def _add(self, name: str, category_id: int | None) -> None:
        for form in (name, plural(name)):
            self._phrases[self.tokens(form)] = category_id
        if self._tokenizer in ("jieba", "words") and script_without_spaces(name[-1:]):
            self._phrases |= {(f"{counted}{name}",): category_id for counted in COUNTED}

    def tokens(self, text: str) -> tuple[str, ...]:
        return tokens_of(text, self._tokenizer)

    def mentions(self, caption: str) -> list[int]:
        """Category ids of the objects that a caption names, one for each mention."""
        tokens = self.tokens(caption)
        found: list[int] = []
        position = 0
        while position < len(tokens):
            length, category_id = self._longest_name(tokens, position)
            if category_id is not None:
                found.append(category_id)
            position += length
        return found

    def _longest_name(self, tokens: Sequence[str], position: int) -> tuple[int, int | None]:
        for length in range(min(self._longest, len(tokens) - position), 0, -1):
            phrase = tuple(tokens[position : position + length])
            if phrase in self._phrases:
                return length, self._phrases[phrase]
        return 1, None


def chair(
    references: dict[int, list[str]],
    results: dict[int, str],
    instances: dict[str, list[dict[str, Any]]],
    tokenizer: Tokenizer = "python",
) -> ChairScore:
    """CHAIRi and CHAIRs of one caption per image.

    An image's objects are the categories of its instances and all that its references mention.

    Args:
        references: image id -> raw captions.
        results: image id -> raw caption.
        instances: COCO `categories` and `annotations`.
        tokenizer: divides captions and names of categories alike.
    """
    names = ObjectNames(instances["categories"], tokenizer)
    named, invented = [], []
    for mentions, present in _mentions(names, references, results, instances):
        named.append(len(mentions))
        invented.append(sum(category_id not in present for category_id in mentions))
    return ChairScore(named, invented)


def invented_objects(
    references: dict[int, list[str]],
    results: dict[int, str],
    instances: dict[str, list[dict[str, Any]]],
    tokenizer: Tokenizer = "python",
) -> dict[int, list[str]]:
    """The names of the objects that each caption invents, by image id; arguments as those of `chair`."""
    names = ObjectNames(instances["categories"], tokenizer)
    return {
        image_id: [names.objects[category_id] for category_id in mentions if category_id not in present]
        for image_id, (mentions, present) in zip(
            results, _mentions(names, references, results, instances), strict=True
        )
    }


def _mentions(
    names: ObjectNames,
    references: dict[int, list[str]],
    results: dict[int, str],
    instances: dict[str, list[dict[str, Any]]],
) -> Iterator[tuple[list[int], set[int]]]:
    """For each result: the categories that its caption names, and those that are in its image."""
    present: dict[int, set[int]] = {image_id: set() for image_id in results}
    for annotation in instances["annotations"]:
        if annotation["image_id"] in present:
            present[annotation["image_id"]].add(annotation["category_id"])
    for image_id, caption in results.items():
        for reference in references[image_id]:
            present[image_id].update(names.mentions(reference))
        yield names.mentions(caption), present[image_id]
