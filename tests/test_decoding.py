"""Decoding against brute force over every caption of a small vocabulary."""

import itertools

import pytest
import torch

from fsgr_model.decoding import beam_search, greedy, sample, word_log_probs
from fsgr_model.network.decoder import CaptionDecoder, DecoderState
from fsgr_model.network.memory import Prototypes
from fsgr_model.text.vocabulary import BOS, EOS, PAD, UNK

B, V, D, MAX_LENGTH = 3, 7, 16, 4


@pytest.fixture(params=["none", "prototypes"])
def decoder(request) -> CaptionDecoder:
    torch.manual_seed(3)
    decoder = CaptionDecoder(
        torch.randn(V, D), D, num_heads=2, d_ff=32, num_layers=2, dropout=0.0, memory=request.param
    ).eval()
    for module in decoder.modules():
        if isinstance(module, Prototypes):
            module.replace(torch.randn(5, D), 3 * torch.randn(5, D))
    with torch.no_grad():
        decoder.output.weight.mul_(1.5)
    return decoder


@pytest.fixture
def start(decoder: CaptionDecoder) -> DecoderState:
    return decoder.start(3 * torch.randn(B, 5, D), torch.randn(5, D))


def step_of(decoder):
    def step(word_BS, state):
        logits, state = decoder(word_BS[..., None], state)
        return logits[..., 0, :], state

    return step


def every_caption() -> list[list[int]]:
    words = [word for word in range(V) if word not in (UNK, PAD, BOS, EOS)]
    ended = [[*body, EOS] for length in range(MAX_LENGTH) for body in itertools.product(words, repeat=length)]
    cut = [list(body) for body in itertools.product(words, repeat=MAX_LENGTH)]
    return ended + cut


def log_probs_of_all(decoder, start) -> tuple[list[list[int]], torch.Tensor]:
    """Every caption, and the log-probability of each for each image [B, number of captions]."""
    captions = every_caption()
    padded = torch.full((len(captions), MAX_LENGTH), PAD)
    for row, caption in enumerate(captions):
        padded[row, : len(caption)] = torch.tensor(caption)
    caption_BSL = padded.expand(B, -1, -1)
    given = torch.cat([torch.full_like(caption_BSL[..., :1], BOS), caption_BSL[..., :-1]], dim=-1)
    log_prob = word_log_probs(decoder(given, start)[0])
    chosen = caption_BSL.masked_fill(caption_BSL == PAD, EOS)[..., None]
    return captions, log_prob.gather(-1, chosen)[..., 0].masked_fill(caption_BSL == PAD, 0).sum(-1)


def words_of(row: torch.Tensor) -> list[int]:
    return [word for word in row.tolist() if word != PAD]


@torch.no_grad()
def test_all_captions_together_have_probability_one(decoder, start):
    _, log_prob = log_probs_of_all(decoder, start)
    torch.testing.assert_close(log_prob.exp().sum(-1), torch.ones(B))


@torch.no_grad()
def test_a_wide_beam_finds_the_best_captions_of_all(decoder, start):
    captions, log_prob = log_probs_of_all(decoder, start)
    found, score = beam_search(step_of(decoder), start, B, len(captions), MAX_LENGTH)
    for b in range(B):
        order = log_prob[b].argsort(descending=True)
        assert [words_of(row) for row in found[b][:10]] == [captions[index] for index in order[:10]]
        torch.testing.assert_close(score[b], log_prob[b][order])


@torch.no_grad()
def test_beam_of_one_is_greedy(decoder, start):
    best, _ = beam_search(step_of(decoder), start, B, 1, MAX_LENGTH)
    assert torch.equal(best, greedy(step_of(decoder), start, B, MAX_LENGTH))


@torch.no_grad()
def test_images_of_a_batch_do_not_mix(decoder, start):
    together, _ = beam_search(step_of(decoder), start, B, 3, MAX_LENGTH)
    for b in range(B):
        layers = tuple(
            type(layer)(layer.image_keys[b : b + 1], layer.image_values[b : b + 1]) for layer in start.layers
        )
        alone, _ = beam_search(step_of(decoder), DecoderState(layers), 1, 3, MAX_LENGTH)
        assert [words_of(row) for row in alone[0]] == [words_of(row) for row in together[b]]


@torch.no_grad()
def test_samples_come_as_often_as_their_probability(decoder, start):
    torch.manual_seed(0)
    captions, log_prob = log_probs_of_all(decoder, start)
    num_samples = 20_000
    drawn = sample(step_of(decoder), start, B, num_samples, MAX_LENGTH)
    for b in range(B):
        rows, counts = drawn[b].unique(dim=0, return_counts=True)
        frequency = {
            tuple(words_of(row)): n / num_samples for row, n in zip(rows, counts.tolist(), strict=True)
        }
        for index in log_prob[b].argsort(descending=True)[:10]:
            probability = log_prob[b, index].exp().item()
            spread = (probability * (1 - probability) / num_samples) ** 0.5
            assert abs(frequency.get(tuple(captions[index]), 0) - probability) < 5 * spread


@torch.no_grad()
def test_special_words_are_never_spoken(decoder, start):
    drawn = sample(step_of(decoder), start, B, 500, MAX_LENGTH)
    assert not torch.isin(drawn, torch.tensor([UNK, BOS])).any()
    # Padding only after the end.
    for row in drawn.flatten(0, 1).tolist():
        assert all(word == PAD for word in row[row.index(EOS) + 1 :]) if EOS in row else PAD not in row
