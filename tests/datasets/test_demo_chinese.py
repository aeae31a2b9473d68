"""Chinese captions of the demo world say true things: each is read back and compared with its scene."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fsgr_model.config.dataset_params import DemoDataset, DemoWorldParams
from fsgr_model.config.params import load_params
from fsgr_model.config.text_params import Segmenter
from fsgr_model.datasets.demo.world import categories, draw_demo_world
from fsgr_model.datasets.demo.world_file import load_world
from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.chair import ObjectNames, chair
from tests.worlds.told import Told, tell

WORLD_FILE = Path("data/demo/world.yaml")
WORLD = load_world(WORLD_FILE)
assert WORLD.chinese
WORDS = WORLD.chinese
KIND_OF = {noun: kind for kind, spec in WORDS.objects.items() for noun in spec.nouns}
COLOUR_OF = {word: name for name, words in WORDS.colours.items() for word in words}
SIZE_OF = {word: name for name, words in WORDS.sizes.items() for word in words}
MEASURES = {measure for spec in WORDS.objects.values() for measure in spec.measure}
NUMBERS = {word: {n for n, words in WORDS.count_words.items() if word in words} for word in "一两三四几"}


def one_of(words: Any) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


NOUN_PHRASE = re.compile(
    rf"([{''.join(NUMBERS)}])({one_of(MEASURES)})(?:{one_of(WORDS.moods.adjectives)})?"
    rf"({one_of(SIZE_OF)})?({one_of(COLOUR_OF)})?({one_of(KIND_OF)})"
)


@pytest.fixture(scope="module")
def told() -> list[Told]:
    return tell(WORLD, 150, "zh")


def test_form(told: list[Told]) -> None:
    fewest, most = WORDS.characters
    for each in told:
        assert len(set(each.captions)) == len(each.captions) == 5
        for caption in each.captions:
            assert re.fullmatch(r"[一-龥]+([，、][一-龥]+)*。?", caption), caption
            assert fewest <= len(caption.rstrip("。")) <= most


def test_named_things_are_there_with_their_number_measure_colour_and_size(told: list[Told]) -> None:
    phrases = 0
    for each in told:
        groups = {group.kind: group for group in each.scene.groups}
        for caption in each.captions:
            for number, measure, size, colour, noun in NOUN_PHRASE.findall(caption):
                phrases += 1
                group = groups[KIND_OF[noun]]
                assert group.count in NUMBERS[number], caption
                assert measure in WORDS.objects[group.kind].measure, caption
                assert COLOUR_OF.get(colour, group.colour) == group.colour, caption
                assert SIZE_OF.get(size, group.size) == group.size, caption
    assert phrases > 5 * len(told)


def test_every_noun_and_place_belongs_to_the_picture(told: list[Told]) -> None:
    for each in told:
        shown = {group.kind for group in each.scene.groups} | {each.scene.background}
        for caption in each.captions:
            named = {
                kind for kind, nouns in WORLD.nouns("zh").items() if any(noun in caption for noun in nouns)
            }
            assert named <= shown, (caption, named - shown)


def test_left_and_right_agree_with_the_masks(told: list[Told]) -> None:
    checked = 0
    for each in told:
        for caption in each.captions:
            side = re.search("[左右]", caption)
            nouns = [KIND_OF[found[-1]] for found in NOUN_PHRASE.findall(caption)]
            if not side or len(nouns) != 2:
                continue
            first, second = (_middle(each, kind) for kind in nouns)
            # 甲在乙的左边 says where the first is; 乙的左边有甲 and 有乙，左边是甲 where the second is.
            if not re.search("在.+的[左右].$", caption.rstrip("。")):
                first, second = second, first
            checked += 1
            assert (first < second) == (side[0] == "左"), caption
    assert checked > 20


def _middle(each: Told, kind: str) -> float:
    things = enumerate(each.scene.things)
    masks = [each.picture.whole[n] for n, thing in things if each.scene.groups[thing.group].kind == kind]
    return float(np.argwhere(np.any(masks, axis=0))[:, 1].mean())


@pytest.mark.parametrize("segmenter", ["characters", "jieba", "words"])
def test_chair_finds_every_name_that_is_said(told: list[Told], segmenter: Segmenter) -> None:
    """Also 一朵花, which dictionaries of segmenters have as one word."""
    if segmenter != "characters":
        pytest.importorskip({"jieba": "jieba", "words": "icu4py"}[segmenter])
    rows = categories(WORLD, "zh")
    names, id_of = ObjectNames(rows, segmenter), {row["name"]: row["id"] for row in rows}
    glued = 0
    for each in told:
        for caption in each.captions:
            said = [id_of[WORDS.objects[KIND_OF[noun]].nouns[0]] for *_, noun in NOUN_PHRASE.findall(caption)]
            assert names.mentions(caption) == said, caption
            glued += any(len(token) > 2 and token[0] in NUMBERS for token in names.tokens(caption))
    assert glued or segmenter == "characters"


def test_the_world_looks_the_same_in_both_languages(tmp_path: Path) -> None:
    size = DemoWorldParams(train_images=6, val_images=1, test_images=2)
    english, chinese = (
        draw_demo_world(
            WORLD_FILE,
            size.model_copy(update={"language": language}),
            5,
            tmp_path / language,
            place="data/dataset",
            segmenter=segmenter,
        )
        for language, segmenter in (("en", "ptb"), ("zh", "characters"))
    )
    assert english.images == chinese.images
    assert english.instances["annotations"] == chinese.instances["annotations"]
    named = [(row["name"], row["synonyms"][:1]) for row in chinese.instances["categories"]]
    assert named[:2] == [("房子", ["房子"]), ("树", ["树"])] and len(named) == 24
    references: dict[int, list[str]] = {image.image_id: [] for image in chinese.images}
    for caption in chinese.captions:
        references[caption.image_id].append(caption.text)
    first = {number: texts[0] for number, texts in references.items()}
    found = chair({number: [] for number in references}, first, chinese.instances, "characters")
    assert sum(found.named) > len(first) / 2 and not any(found.invented)


def test_what_a_world_file_lacks_in_chinese_is_told_where_chinese_is_asked_for(tmp_path: Path) -> None:
    values = yaml.safe_load(WORLD_FILE.read_text("utf-8"))
    path = tmp_path / "world.yaml"

    def nouns() -> dict[str, list[str]]:
        path.write_text(yaml.safe_dump(values, allow_unicode=True), "utf-8")
        world = load_world(path)
        assert len(world.nouns("en")) == 24
        return world.nouns("zh")

    dog = values["chinese"]["objects"].pop("dog")
    with pytest.raises(
        UserError, match=r"chinese\.objects of the world file has no words for 'dog'; add them"
    ):
        nouns()
    values["chinese"]["objects"]["dog"] = dog | {"nouns": ["猫"]}
    with pytest.raises(UserError, match=r"cat \(猫\) and dog \(猫\): one noun holds the other"):
        nouns()
    del values["chinese"]
    with pytest.raises(UserError, match=r"language is zh, but the world file has no section `chinese`"):
        nouns()


def test_chinese_needs_a_tokenizer_that_knows_no_spaces(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    preset = Path("presets/demo_zh.yaml").read_text("utf-8")
    path.write_text(preset.replace("tokenizer: jieba", "tokenizer: ptb"), "utf-8")
    with pytest.raises(UserError, match=r"set text\.tokenizer: jieba, characters or words"):
        load_params(path)


def test_the_preset_is_the_demo_but_for_its_language() -> None:
    english, chinese = (load_params(Path(name)) for name in ("params.yaml", "presets/demo_zh.yaml"))
    assert isinstance(english.dataset, DemoDataset)
    size = english.dataset.demo.model_copy(update={"language": "zh"})
    assert english.dataset.model_copy(update={"demo": size}) == chinese.dataset
    assert (english.model, english.optimiser, english.lr) == (chinese.model, chinese.optimiser, chinese.lr)
