"""Captions as arrays are the captions as lists."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fsgr_model.text.caption_table import CaptionTable, WordTable
from fsgr_model.text.vocabulary import SPECIALS, Vocabulary

WORDS = st.sampled_from(["a", "dog", "<unk>", "<eos>", "1\xa01/2", "über", "unlisted"])
CAPTIONS = st.dictionaries(
    st.integers(0, 2**62), st.lists(st.lists(WORDS, max_size=5), max_size=3), max_size=6
)
Captions = dict[int, list[list[str]]]
VOCABULARY = Vocabulary([*SPECIALS, "a", "dog", "über"])


@given(CAPTIONS)
def test_a_table_is_the_mapping_that_it_was_made_of(captions: Captions) -> None:
    table = WordTable.of(captions)
    assert table == captions and list(table) == list(captions) and len(table) == len(captions)
    words = [word for of_image in captions.values() for caption in of_image for word in caption]
    assert dict(table.counts()) == {word: words.count(word) for word in words}


@given(CAPTIONS, st.integers(0, 6) | st.none())
def test_all_captions_are_encoded_as_each_is(captions: Captions, longest: int | None) -> None:
    found = VOCABULARY.encode_table(WordTable.of(captions), longest)
    assert dict(found) == {
        image_id: [VOCABULARY.encode(c, len(c) if longest is None else longest) for c in of_image]
        for image_id, of_image in captions.items()
    }
    assert found.words_per_image().tolist() == [sum(map(len, of_image)) for of_image in found.values()]


@given(CAPTIONS, st.data())
def test_some_images_in_any_order(captions: Captions, data: st.DataObject) -> None:
    ids = data.draw(st.permutations(list(captions)))[: len(captions) // 2]
    table = WordTable.of(captions)
    few = WordTable(table.words, table.table.of_images(ids))
    assert list(few) == ids and few == {image_id: captions[image_id] for image_id in ids}
    assert all(image_id in table for image_id in ids) and -1 not in table


def test_a_table_of_a_table_is_the_same_object() -> None:
    table = CaptionTable.of({3: [[1, 2], []], 1: []})
    assert CaptionTable.of(table) is table
    assert np.array_equal(table.rows(np.array([1, 0])).image_ids, [1, 3])
