"""CIDEr-D against pycocoevalcap's scorer, whose numbers it has to equal."""

import math
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.cider.cider_scorer import CiderScorer

from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring import document_frequencies
from fsgr_model.scoring.cider_d import CiderD, CiderDByBatch
from fsgr_model.scoring.device_cider_d import DeviceCiderD
from fsgr_model.scoring.document_frequencies import DocumentFrequencies
from fsgr_model.text.caption_table import CaptionTable
from fsgr_model.text.vocabulary import BOS, EOS, PAD, SPECIALS, Vocabulary

NUM_WORDS = 30
Captions = dict[int, list[list[int]]]
captions_of = st.lists(st.integers(4, 12), max_size=9)
references_of = st.lists(st.lists(st.integers(4, 12), min_size=1, max_size=9), min_size=1, max_size=4)
corpora = st.lists(st.tuples(captions_of, references_of), min_size=1, max_size=6)


def padded(captions: list[list[int]], width: int = 12) -> np.ndarray:
    """Rows that end in <eos>, with words behind it that must not count."""
    rows = np.full((len(captions), width), PAD, dtype=np.int64)
    for row, caption in zip(rows, captions, strict=True):
        row[: len(caption) + 1] = [*caption, EOS]
        row[len(caption) + 2 :] = 5
    return rows


def text(caption: list[int], end_token: bool) -> str:
    return " ".join(f"w{word}" for word in caption) + (" <end>" if end_token else "")


def official(candidates: dict[int, list[int]], references: Captions, end_token: bool) -> np.ndarray:
    truth = {i: [text(caption, end_token) for caption in of_image] for i, of_image in references.items()}
    found = {i: [text(caption, end_token)] for i, caption in candidates.items()}
    return Cider().compute_score(truth, found)[1]


def official_with(
    frequencies_of: Captions, candidates: dict[int, list[int]], references: Captions
) -> np.ndarray:
    """The official scorer, given the document frequencies of another corpus (end token included)."""
    foreign = CiderScorer()
    for of_image in frequencies_of.values():
        foreign += ("", [text(caption, True) for caption in of_image])
    foreign.compute_doc_freq()
    scorer = CiderScorer()
    for image_id, caption in candidates.items():
        scorer += (text(caption, True), [text(reference, True) for reference in references[image_id]])
    scorer.document_frequency = foreign.document_frequency
    # compute_cider takes the number of images from the number of references: empty images make it up.
    missing = len(frequencies_of) - len(scorer.crefs)
    assert missing >= 0
    scorer.crefs += [[{}]] * missing
    scorer.ctest += [{}] * missing
    return np.array(scorer.compute_cider())[: len(candidates)]


@pytest.mark.parametrize("end_token", [False, True])
@settings(max_examples=60, deadline=None)
@given(corpus=corpora)
def test_equals_the_official_scorer(end_token: bool, corpus: list[tuple[list[int], list[list[int]]]]) -> None:
    candidates = {image_id: caption for image_id, (caption, _) in enumerate(corpus)}
    references = {image_id: of_image for image_id, (_, of_image) in enumerate(corpus)}
    frequencies = DocumentFrequencies.build(references.values(), NUM_WORDS)
    scorer = CiderD(references, frequencies, end_token)
    scores = scorer.score(padded(list(candidates.values())), list(candidates))
    np.testing.assert_allclose(scores, official(candidates, references, end_token), atol=1e-9)


def random_corpus(seed: int, images: int, words: int, references: int = 5) -> Captions:
    """Captions whose words are as unevenly distributed as a language's."""
    dice = random.Random(seed)
    chances = [1 / rank for rank in range(1, words + 1)]
    vocabulary = range(4, words + 4)
    return {
        image_id: [dice.choices(vocabulary, chances, k=dice.randint(6, 14)) for _ in range(references)]
        for image_id in range(images)
    }


def test_equals_the_official_scorer_with_foreign_document_frequencies() -> None:
    training, references = random_corpus(1, 60, 50), random_corpus(2, 20, 70, references=3)
    candidates = {image_id: of_image[0] for image_id, of_image in random_corpus(3, 20, 70, 1).items()}
    scorer = CiderD(references, DocumentFrequencies.build(training.values(), 80), end_token=True)
    scores = scorer.score(padded(list(candidates.values()), 20), list(candidates))
    expected = official_with(training, candidates, references)
    assert expected.max() > 0.1
    np.testing.assert_allclose(scores, expected, atol=1e-9)


@pytest.mark.parametrize("end_token", [True, False])
def test_references_prepared_by_batch_score_as_all_of_them_do(end_token: bool) -> None:
    references = random_corpus(1, 40, 60)
    references[7] = references[7][:2]
    frequencies = DocumentFrequencies.build(references.values(), 80)
    by_batch = CiderDByBatch(CaptionTable.of(references), frequencies, end_token)
    ids = [7, 3, 3, 39, 7]
    rows = padded([references[image_id][1] for image_id in (3, 3, 7, 39, 0)], 16)
    expected = CiderD(references, frequencies, end_token).score(rows, ids)
    np.testing.assert_array_equal(by_batch.score(rows, ids), expected)
    np.testing.assert_array_equal(by_batch.prepared().score(rows, ids), expected)
    assert expected.max() > 1
    with pytest.raises(ValueError, match=r"images without references: \[99\]"):
        by_batch.score(rows[:2], [3, 99])


def test_frequencies_are_the_same_whatever_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    references = random_corpus(1, 23, 50)
    whole = DocumentFrequencies.build(references.values(), 80)
    monkeypatch.setattr(document_frequencies, "IMAGES_A_PIECE", 5)
    pieces = DocumentFrequencies.build(references.values(), 80)
    np.testing.assert_array_equal(pieces.keys, whole.keys)
    np.testing.assert_array_equal(pieces.counts, whole.counts)
    assert pieces.num_images == 23


def test_unlisted_words_count_as_in_the_official_metric() -> None:
    vocabulary = Vocabulary([*SPECIALS, "a", "dog", "cat"])
    texts = {
        0: ["a brown dog", "the dog"],
        1: ["a brown cat", "one purple cat 1\xa01/2"],
        2: ["a dog", "cat"],
    }
    spoken = {0: "a dog", 1: "a cat cat", 2: "a dog"}
    unlisted: dict[str, int] = {}
    references = {i: [vocabulary.encode_open(text.split(" "), unlisted) for text in texts[i]] for i in texts}
    frequencies = DocumentFrequencies.build(references.values(), len(vocabulary) + len(unlisted))
    rows = padded([vocabulary.encode(caption.split(), 9)[1:-1] for caption in spoken.values()])
    scores = CiderD(references, frequencies, False).score(rows, list(spoken))
    expected = Cider().compute_score(texts, {i: [caption] for i, caption in spoken.items()})[1]
    assert expected.max() > 0.5
    np.testing.assert_allclose(scores, expected, atol=1e-9)


def test_special_ids_in_references_do_not_count() -> None:
    bare = {0: [[5, 6, 7]], 1: [[6, 8]]}
    dressed = {0: [[BOS, 5, 6, 7, EOS, PAD]], 1: [[BOS, 6, 8, EOS]]}
    rows = padded([[5, 6], [6, 8]])
    for end_token in (False, True):
        one, other = (
            CiderD(references, DocumentFrequencies.build(references.values(), NUM_WORDS), end_token)
            for references in (bare, dressed)
        )
        np.testing.assert_array_equal(one.score(rows, [0, 1]), other.score(rows, [0, 1]))


def test_a_caption_without_end_token_loses_only_where_it_counts() -> None:
    """A sample that was cut at the longest length has no <eos>, and must not be given one."""
    references = {0: [[5, 6, 7, 8]], 1: [[9, 10]], 2: [[11]]}
    frequencies = DocumentFrequencies.build(references.values(), NUM_WORDS)
    ended, cut = np.array([[5, 6, 7, 8, EOS]]), np.array([[5, 6, 7, 8]])
    with_end, without = (CiderD(references, frequencies, flag) for flag in (True, False))
    assert with_end.score(ended, [0])[0] > with_end.score(cut, [0])[0] + 0.1
    assert without.score(ended, [0])[0] == without.score(cut, [0])[0] == pytest.approx(10)


def test_the_end_token_punishes_a_fragment() -> None:
    """Stopping in "with a" costs only where the end is a word: why the reward counts it."""
    references = {0: [[5, 6, 7, 8, 9]], 1: [[10, 11, 12, 13]], 2: [[14, 7, 8, 15]]}
    frequencies = DocumentFrequencies.build(references.values(), NUM_WORDS)
    rows = padded([[5, 6, 7, 8], [5, 6, 7, 8, 9]])
    losses = []
    for flag in (True, False):
        fragment, whole = CiderD(references, frequencies, flag).score(rows, [0, 0])
        losses.append(whole - fragment)
    assert losses[0] > losses[1] > 0


def test_several_captions_of_one_image_score_as_one_by_one() -> None:
    references = random_corpus(5, 10, 40)
    scorer = CiderD(references, DocumentFrequencies.build(references.values(), 50), True)
    rows = padded([of_image[0] for of_image in random_corpus(6, 30, 40, 1).values()], 20)
    image_ids = [3, 3, 9, *range(10), *range(9, -1, -1), 0, 0, 1, 1, 2, 2, 3]
    together = scorer.score(rows, image_ids)
    apart = [scorer.score(rows[i : i + 1], image_ids[i : i + 1])[0] for i in range(30)]
    np.testing.assert_allclose(together, apart, atol=1e-12)


def test_document_frequencies_count_images() -> None:
    frequencies = DocumentFrequencies.build([[[5, 5], [5]], [[5, 6]], [[7]]], NUM_WORDS)
    keys = np.array([5 + 1, 6 + 1, 7 + 1, EOS + 1, 8 + 1])
    np.testing.assert_allclose(np.exp(-frequencies.idf(keys)) * 3, [2, 1, 1, 3, 1])


def test_equal_frequencies_are_equal_bytes(tmp_path: Path) -> None:
    vocabulary = Vocabulary([*SPECIALS, "a", "b", "c"])
    frequencies = DocumentFrequencies.build([[[4, 5]], [[4, 6]]], len(vocabulary))
    found = set()
    for number in range(12):
        frequencies.save(tmp_path / f"{number}.safetensors", vocabulary)
        found.add((tmp_path / f"{number}.safetensors").read_bytes())
    assert len(found) == 1


def test_frequencies_survive_saving(tmp_path: Path) -> None:
    vocabulary = Vocabulary([*SPECIALS, "a", "b", "c"])
    frequencies = DocumentFrequencies.build([[[4, 5]], [[4, 6]]], len(vocabulary))
    frequencies.save(tmp_path / "df.safetensors", vocabulary)
    loaded = DocumentFrequencies.load(tmp_path / "df.safetensors", vocabulary)
    np.testing.assert_array_equal(loaded.keys, frequencies.keys)
    np.testing.assert_array_equal(loaded.counts, frequencies.counts)
    assert (loaded.num_images, loaded.num_words) == (2, 7)
    with pytest.raises(UserError, match="other words"):
        DocumentFrequencies.load(tmp_path / "df.safetensors", Vocabulary([*SPECIALS, "a", "c", "b"]))
    with pytest.raises(UserError, match="does not exist"):
        DocumentFrequencies.load(tmp_path / "none.safetensors", vocabulary)


def test_wrong_ids_are_refused() -> None:
    scorer = CiderD({7: [[5]]}, DocumentFrequencies.build([[[5]]], NUM_WORDS), True)
    with pytest.raises(ValueError, match="without references"):
        scorer.score(padded([[5]]), [8])
    with pytest.raises(ValueError, match="not all below 30"):
        scorer.score(padded([[30]]), [7])
    with pytest.raises(ValueError, match="too many"):
        DocumentFrequencies.build([[[5]]], 60_000)


def test_an_n_gram_never_stands_for_another() -> None:
    """Packed keys of different lengths differ, also those that begin or end with the lowest id."""
    frequencies = DocumentFrequencies.build([[[0], [4, 4, 4, 4]], [[4, 0]]], NUM_WORDS)
    assert len(np.unique(frequencies.keys)) == len(frequencies.keys)
    assert frequencies.keys.min() > 0
    assert math.isclose(CiderD({0: [[4]], 1: [[6]]}, frequencies, False).score(np.array([[0]]), [0])[0], 0)


def test_document_frequencies_are_those_of_counting_one_by_one() -> None:
    references = random_corpus(9, 40, 15)
    plain: Counter[tuple[int, ...]] = Counter()
    for of_image in references.values():
        ended = [[*caption, EOS] for caption in of_image]
        plain.update({tuple(c[i : i + n]) for c in ended for n in range(1, 5) for i in range(len(c) - n + 1)})
    frequencies = DocumentFrequencies.build(references.values(), NUM_WORDS)
    keys = [sum((w + 1) * 31**d for d, w in enumerate(reversed(gram))) for gram in plain]
    assert dict(zip(frequencies.keys.tolist(), frequencies.counts.tolist(), strict=True)) == dict(
        zip(keys, plain.values(), strict=True)
    )
    assert (np.diff(frequencies.keys) > 0).all()


@pytest.mark.parametrize("end_token", [False, True])
def test_the_scorer_of_a_device_gives_the_same_scores(end_token: bool) -> None:
    """Also for n-grams of no image, words that repeat, captions without an end, and empty ones."""
    references = random_corpus(10, 20, 12, 3) | {77: [[5, 6, 7]]}
    frequencies = DocumentFrequencies.build(random_corpus(11, 30, 12).values(), NUM_WORDS)
    scorer = CiderD(references, frequencies, end_token)
    spoken = [
        *(of_image[0][:9] for of_image in random_corpus(12, 40, 20, 1).values()),
        [],
        [5, 6, 7],
        [5] * 9,
    ]
    rows = padded(spoken, 11)
    rows[:5, 9:] = 6  # cut off: no end token
    image_ids = [*range(20), *range(20), 77, 77, 77]
    expected = scorer.score(rows, image_ids)
    on_device = DeviceCiderD(scorer, torch.device("cpu"))
    assert expected.max() > 1 and expected.min() == 0
    scores = on_device.score(torch.from_numpy(rows), image_ids)
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match=r"without references: \[8888\]"):
        on_device.score(torch.from_numpy(rows[:1]), [8888])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_scorer_of_a_gpu_gives_the_same_scores() -> None:
    references = random_corpus(10, 20, 12, 3)
    scorer = CiderD(references, DocumentFrequencies.build(references.values(), NUM_WORDS), True)
    rows = padded([of_image[0] for of_image in random_corpus(12, 20, 20, 1).values()], 20)
    scores = DeviceCiderD(scorer, torch.device("cuda")).score(torch.from_numpy(rows).cuda(), range(20))
    np.testing.assert_allclose(scores.cpu().numpy(), scorer.score(rows, range(20)), atol=1e-12, rtol=0)


@pytest.mark.slow
def test_fast_enough_for_a_reward() -> None:
    references = random_corpus(7, 1000, 3000)
    scorer = CiderD(references, DocumentFrequencies.build(references.values(), 3010), True)
    rows = padded([of_image[0] for of_image in random_corpus(8, 50, 3000, 1).values()], 20)
    image_ids = [image_id for image_id in range(10) for _ in range(5)]
    scorer.score(rows, image_ids)
    start = time.perf_counter()
    for _ in range(50):
        scorer.score(rows, image_ids)
    assert 2500 / (time.perf_counter() - start) > 40_000
