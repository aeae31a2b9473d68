"""BLEU-4 by caption beside pycocoevalcap's."""

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu

from fsgr_model.scoring.sentence_bleu import SentenceBleu
from fsgr_model.text.caption_table import CaptionTable
from fsgr_model.text.vocabulary import BOS, EOS, PAD

WORDS = 12


def as_text(words: list[int], end_token: bool) -> str:
    """What the official scorer reads: numbers for words, and one for the end token if it counts."""
    kept = words[: words.index(EOS) + 1] if EOS in words else words
    return " ".join(str(word) for word in kept if word not in (BOS, PAD) and (end_token or word != EOS))


@pytest.mark.parametrize("end_token", [True, False])
def test_it_is_that_of_pycocoevalcap(end_token: bool) -> None:
    """Repeated words, references of many lengths, captions of one word, of none, and without an end."""
    rng = np.random.default_rng(0)
    references = {
        number: [
            [BOS, *rng.integers(4, WORDS, rng.integers(1, 14)).tolist(), EOS] for _ in range(1 + number % 4)
        ]
        for number in (7, 3, 11, 20)
    }
    image_ids = rng.choice([7, 3, 11, 20], 60).tolist()
    rows = [[*rng.integers(4, WORDS, rng.integers(0, 10)).tolist(), EOS] for _ in image_ids]
    rows[0], rows[1], rows[2] = [5] * 11, [EOS], [5, EOS]
    rows[3] = references[image_ids[3]][0][1:12]
    caption_NL = np.array([row + [PAD] * (12 - len(row)) for row in rows])
    found = SentenceBleu(CaptionTable.of(references), WORDS, end_token).score(caption_NL, image_ids)
    truth = {
        row: [as_text(one, end_token) for one in references[image_id]]
        for row, image_id in enumerate(image_ids)
    }
    spoken = {row: [as_text(words, end_token)] for row, words in enumerate(rows)}
    expected = Bleu(4).compute_score(truth, spoken, verbose=0)[1][3]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert found[3] > 0.9 and found.min() < 1e-3


def test_no_caption_has_no_score() -> None:
    scorer = SentenceBleu(CaptionTable.of({1: [[4, 5]]}), WORDS, True)
    assert scorer.score(np.zeros((0, 5), dtype=np.int64), []).shape == (0,)
