"""CHAIR of sampled captions beside `chair` on their text."""

import numpy as np
import pytest

from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.chair import ObjectNames, chair
from fsgr_model.scoring.coco_synonyms import COCO_SYNONYMS
from fsgr_model.scoring.object_finder import ObjectFinder
from fsgr_model.scoring.sentence_chair import SentenceChair
from fsgr_model.text.caption_table import WordTable
from fsgr_model.text.ptb_tokenizer import ptb_tokenize
from fsgr_model.text.vocabulary import EOS, PAD, SPECIALS, Vocabulary

CATEGORIES = [
    {"id": 10 * number, "name": name, "supercategory": "thing"}
    for number, name in enumerate(COCO_SYNONYMS, start=1)
]
ID_OF = {category["name"]: category["id"] for category in CATEGORIES}
# Long names beside their own beginnings and ends, phrases that mean no object, plurals.
SPOKEN = "a hot dog dogs teddy bear bears train station tracks polar wine glass glasses with person on and"
WORDS = SPOKEN.split()
VOCABULARY = Vocabulary([*SPECIALS, *WORDS])


def annotation(image_id: int, name: str) -> dict:
    return {"image_id": image_id, "category_id": ID_OF[name]}


INSTANCES = {
    "categories": CATEGORIES,
    "annotations": [
        annotation(1, "dog"),
        annotation(2, "bear"),
        annotation(2, "wine glass"),
        annotation(9, "dog"),
    ],
}
# "sofa" is no word of the vocabulary, but a couch all the same.
REFERENCES = {1: ["a teddy bear on a sofa"], 2: ["a train"], 3: ["person", "a train station"]}


def rows_of(captions: list[list[str]]) -> np.ndarray:
    rows = [[VOCABULARY.words.index(word) for word in caption] + [EOS] for caption in captions]
    return np.array([row + [PAD] * (10 - len(row)) for row in rows])


def scorer(instances: dict) -> SentenceChair:
    tokens = {image_id: [ptb_tokenize(text) for text in texts] for image_id, texts in REFERENCES.items()}
    return SentenceChair(instances, WordTable.of(tokens), VOCABULARY)


def test_it_is_chair_of_each_caption_alone() -> None:
    rng = np.random.default_rng(0)
    captions = [rng.choice(WORDS, rng.integers(0, 9)).tolist() for _ in range(200)]
    image_ids = rng.choice([3, 1, 2], 200).tolist()
    found = scorer(INSTANCES).score(rows_of(captions), image_ids)
    expected = [
        chair(REFERENCES, {image_id: " ".join(caption)}, INSTANCES).per_instance
        for image_id, caption in zip(image_ids, captions, strict=True)
    ]
    np.testing.assert_allclose(found, expected)
    assert 0 < found.mean() < 1


def test_objects_are_found_where_the_words_find_them() -> None:
    names = ObjectNames(CATEGORIES)
    finder = ObjectFinder(names, VOCABULARY.words)
    texts = ("a hot dog and dogs", "teddy bear bears polar bear", "train tracks train")
    captions = [text.split() for text in texts]
    found_NL = finder.mentions(rows_of(captions), np.array([len(caption) for caption in captions]))
    found = [[finder.categories[place] for place in row if place >= 0] for row in found_NL.tolist()]
    assert found == [names.mentions(text) for text in texts]
    assert found_NL[0].tolist()[1] >= 0 and found_NL[0].tolist()[2] == -1


def test_nothing_is_said_of_an_image_that_the_instance_files_do_not_list() -> None:
    captions = rows_of([["dog"], ["dog"]])
    assert scorer(INSTANCES).score(captions, [2, 3]).tolist() == [1, 1]
    partly = scorer({**INSTANCES, "images": [{"id": 1}, {"id": 2}]})
    assert partly.score(captions, [2, 3]).tolist() == [1, 0]


def test_a_dataset_without_objects_is_refused() -> None:
    with pytest.raises(UserError, match=r"scst\.reward\.chair needs instances"):
        scorer({"categories": CATEGORIES, "annotations": [annotation(9, "dog")]})
