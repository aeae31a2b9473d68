"""What is drawn with a temperature, top-k and top-p, and which sample is the consensus."""

from collections import Counter

import numpy as np
import pytest
import torch

from fsgr_model.inference.consensus import by_consensus
from fsgr_model.inference.decoding import Rule, Spoken, sample
from fsgr_model.inference.rules import (
    Begin,
    MaxWords,
    MinWords,
    MustNot,
    NoRepeat,
    Temperature,
    TopK,
    TopP,
)
from fsgr_model.scoring.cider_d import CiderD
from fsgr_model.scoring.document_frequencies import DocumentFrequencies
from fsgr_model.text.vocabulary import EOS, PAD
from tests.inference.brute_force import (
    MAX_LENGTH,
    B,
    Caption,
    PlainSearch,
    V,
    body,
    contains,
    repeats,
    small_decoder,
    step_of,
    words_of,
)

DECODER, START = small_decoder()
PLAIN = [PlainSearch(DECODER, START, b) for b in range(B)]
SAMPLES = 4000


def drawn(*rules: Rule, seed: int = 0) -> list[list[Caption]]:
    torch.manual_seed(seed)
    with torch.no_grad():
        caption_BSL = sample(
            step_of(DECODER), START, B, num_samples=SAMPLES, max_length=MAX_LENGTH, rules=rules
        )
    return [[words_of(row) for row in of_image] for of_image in caption_BSL]


def tempered(probability: dict[int, float], value: float) -> dict[int, float]:
    return {word: p ** (1 / value) for word, p in probability.items()}


def likeliest(probability: dict[int, float], count: int) -> dict[int, float]:
    return dict(sorted(probability.items(), key=lambda pair: -pair[1])[:count])


def nucleus(probability: dict[int, float], mass: float) -> dict[int, float]:
    whole, kept = sum(probability.values()), {}
    for word, p in sorted(probability.items(), key=lambda pair: -pair[1]):
        if sum(kept.values()) < mass * whole:
            kept[word] = p
    return kept


WAYS = {
    "cold": ([Temperature(0.4)], lambda p: tempered(p, 0.4)),
    "hot": ([Temperature(3.0)], lambda p: tempered(p, 3.0)),
    "two words": ([TopK(2)], lambda p: likeliest(p, 2)),
    "more words than there are": ([TopK(99)], lambda p: p),
    "half": ([TopP(0.5)], lambda p: nucleus(p, 0.5)),
    "nine tenths": ([TopP(0.9)], lambda p: nucleus(p, 0.9)),
    "all": ([TopP(1.0)], lambda p: p),
    "hot, three, most": (
        [Temperature(2.0), TopK(3), TopP(0.8)],
        lambda p: nucleus(likeliest(tempered(p, 2.0), 3), 0.8),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_captions_come_as_often_as_their_changed_probability(way: str) -> None:
    rules, change = WAYS[way]
    for plain, of_image in zip(PLAIN, drawn(*rules), strict=True):
        probability: dict[Caption, float] = {}
        waiting: dict[Caption, float] = {(): 1.0}
        while waiting:
            caption, p = waiting.popitem()
            if EOS in caption or len(caption) == MAX_LENGTH:
                probability[caption] = p
                continue
            of_word = {child[-1]: np.exp(plain.last[child]) for child in plain.children(caption)}
            changed = change(of_word)
            waiting |= {(*caption, word): p * w / sum(changed.values()) for word, w in changed.items()}
        counts = Counter(of_image)
        assert counts.keys() <= probability.keys()
        for caption, p in sorted(probability.items(), key=lambda pair: -pair[1])[:12]:
            spread = (p * (1 - p) / SAMPLES) ** 0.5
            assert abs(counts[caption] / SAMPLES - p) <= 5 * spread + 1e-6


def test_draws_keep_to_the_wishes_of_a_search() -> None:
    rules = [Begin((6,)), MustNot([(4, 4)]), NoRepeat(2), MinWords(2), MaxWords(4)]
    captions = {caption for of_image in drawn(*rules) for caption in of_image}
    assert len(captions) > 20
    for caption in captions:
        assert caption[0] == 6 and 2 <= len(body(caption)) <= 4 and EOS in caption
        assert not contains(caption, (4, 4)) and not repeats(caption, 2)


def test_a_rule_is_told_which_images_and_which_words() -> None:
    """Though captions and images leave the batch when they have ended."""
    first: dict[int, set[int]] = {}
    seen: list[list[int]] = []

    def listen(log_prob_BSV: torch.Tensor, spoken: Spoken) -> None:
        # The first word of an image is made the word of its number, so that it tells the image.
        if spoken.length == 0:
            log_prob_BSV.fill_(-torch.inf)
            for row, image in enumerate(spoken.image_B.tolist()):
                log_prob_BSV[row, :, 4 + image] = 0
        else:
            log_prob_BSV[spoken.image_B == 1, :, EOS] += 9
            seen.append(spoken.image_B.tolist())
            for image, of_image in zip(spoken.image_B.tolist(), spoken.word_BSP.tolist(), strict=True):
                first.setdefault(image, set()).update(words[0] for words in of_image)

    with torch.no_grad():
        sample(step_of(DECODER), START, B, num_samples=3, max_length=MAX_LENGTH, rules=[listen])
    assert first == {image: {4 + image} for image in range(B)}
    assert seen[0] == [0, 1, 2] and [0, 2] in seen, "the second image ends early"


def test_rules_that_change_nothing_draw_the_same() -> None:
    assert drawn() == drawn(MinWords(0), TopK(V), MustNot([]))


def test_the_consensus_is_the_sample_most_like_all_of_them() -> None:
    torch.manual_seed(1)
    caption_BSL = torch.randint(4, 9, (4, 6, 7))
    for row in caption_BSL.flatten(0, 1):
        end = int(torch.randint(0, 7, ()))
        row[end], row[end + 1 :] = EOS, PAD
    caption_BSL[0, 3] = caption_BSL[0, 1]
    ordered = by_consensus(caption_BSL)
    none = np.zeros(0, dtype=np.int64)
    for before, after in zip(caption_BSL, ordered, strict=True):
        likeness = []
        for candidate in before:
            pairs = [
                CiderD({1: [other.tolist()]}, DocumentFrequencies(none, none, 2, 9), end_token=False)
                for other in before
            ]
            likeness.append(np.mean([pair.score(candidate[None].numpy(), [1])[0] for pair in pairs]))
        order = sorted(range(len(before)), key=lambda index: -round(likeness[index], 9))
        assert torch.equal(after, before[order])


def test_the_consensus_is_what_most_samples_say() -> None:
    say, other = [4, 5, 6, EOS], [7, 8, 7, EOS]
    assert by_consensus(torch.tensor([[other, say, say]]))[0, 0].tolist() == say
    assert by_consensus(torch.tensor([[[EOS], [EOS]]]))[0, 0].tolist() == [EOS]
