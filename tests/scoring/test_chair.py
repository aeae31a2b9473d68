import pytest

from fsgr_model.scoring.chair import ObjectNames, chair, plural
from fsgr_model.scoring.coco_synonyms import COCO_SYNONYMS

COCO = [
    {"id": number, "name": name, "supercategory": "thing"}
    for number, name in enumerate(COCO_SYNONYMS, start=1)
]
ID_OF = {category["name"]: category["id"] for category in COCO}
WORLD = [
    {"id": 1, "name": "dog", "supercategory": "object", "synonyms": ["dog", "puppy", "puppies"]},
    {"id": 2, "name": "fish", "supercategory": "object", "synonyms": ["fish"]},
    {"id": 3, "name": "grass", "supercategory": "background", "synonyms": ["meadow"]},
]


def named(caption: str) -> list[str]:
    name_of = {number: name for name, number in ID_OF.items()}
    return [name_of[number] for number in ObjectNames(COCO).mentions(caption)]


def test_all_coco_objects_have_an_entry_and_no_word_two_meanings() -> None:
    assert len(COCO_SYNONYMS) == 80
    words = [word for name, others in COCO_SYNONYMS.items() for word in [name, *others]]
    assert sorted({word for word in words if words.count(word) > 1}) == []


@pytest.mark.parametrize(
    ("caption", "objects"),
    [
        ("A hot dog next to a dog", ["hot dog", "dog"]),
        ("A teddy bear and a polar bear", ["teddy bear", "bear"]),
        ("Two women with knives and wine glasses", ["person", "knife", "wine glass"]),
        ("People on train tracks", ["person"]),
        ("A train at the train station", ["train"]),
        ("Men ride motorbikes past a fire truck", ["person", "motorcycle", "truck"]),
        ("A t.v., two couches, mice and a double-decker bus", ["tv", "couch", "mouse", "bus", "bus"]),
        ("A couple of giraffes by the humans", ["giraffe", "person"]),
        ("The sky is blue", []),
    ],
)
def test_objects_in_captions(caption: str, objects: list[str]) -> None:
    assert named(caption) == objects


@pytest.mark.parametrize(
    ("one", "many"),
    [
        *(
            ("dog", "dogs"),
            ("bus", "buses"),
            ("puppy", "puppies"),
            ("toy", "toys"),
            ("sandwich", "sandwiches"),
        ),
        *(
            ("policeman", "policemen"),
            ("human", "humans"),
            ("wine glass", "wine glasses"),
            ("person", "people"),
        ),
        *(("knife", "knives"), ("giraffe", "giraffes"), ("sheep", "sheep"), ("mouse", "mice")),
    ],
)
def test_plurals(one: str, many: str) -> None:
    assert plural(one) == many


def test_scores_by_hand() -> None:
    instances = {
        "categories": COCO,
        "annotations": [
            {"image_id": 1, "category_id": ID_OF["dog"]},
            {"image_id": 2, "category_id": ID_OF["cat"]},
        ],
    }
    references = {1: ["a puppy on a sofa"], 2: ["a cat"], 3: ["an empty street"]}
    # Image 1: dog and couch are right, the couch by its reference alone; frisbee is not. Image 2: dog, twice.
    results = {1: "a dog with a frisbee on a couch", 2: "a dog and a dog", 3: "an empty street"}
    found = chair(references, results, instances)
    assert found.per_instance == pytest.approx(3 / 5)
    assert found.per_sentence == pytest.approx(2 / 3)


def test_own_synonyms_win_and_backgrounds_are_no_objects() -> None:
    instances = {"categories": WORLD, "annotations": [{"image_id": 1, "category_id": 3}]}
    found = chair({1: ["a puppy"]}, {1: "dogs and fish in a meadow on grass"}, instances)
    assert (found.per_instance, found.per_sentence) == (1 / 2, 1)


def test_a_caption_without_objects_hallucinates_nothing() -> None:
    found = chair({1: ["a dog"]}, {1: "it is blue"}, {"categories": WORLD, "annotations": []})
    assert (found.per_instance, found.per_sentence) == (0, 0)
