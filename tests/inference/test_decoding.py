"""Decoding against brute force over every caption of a small vocabulary."""

import itertools
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fsgr_model.inference.beam_search import beam_search
from fsgr_model.inference.decoding import greedy, sample, word_log_probs
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


def counting(step, rows: list[int]):
    """The same step; takes down how many captions it reads."""

    def counted(word_BS, state):
        rows.append(word_BS.numel())
        return step(word_BS, state)

    return counted


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
    found, score = beam_search(step_of(decoder), start, B, beam_size=len(captions), max_length=MAX_LENGTH)
    for b in range(B):
        order = log_prob[b].argsort(descending=True)
        assert [words_of(row) for row in found[b][:10]] == [captions[index] for index in order[:10]]
        torch.testing.assert_close(score[b], log_prob[b][order])


@torch.no_grad()
def test_beam_of_one_is_greedy(decoder, start):
    best, _ = beam_search(step_of(decoder), start, B, beam_size=1, max_length=MAX_LENGTH)
    assert torch.equal(best, greedy(step_of(decoder), start, B, max_length=MAX_LENGTH))


@torch.no_grad()
def test_images_of_a_batch_do_not_mix(decoder, start):
    together, _ = beam_search(step_of(decoder), start, B, beam_size=3, max_length=MAX_LENGTH)
    for b in range(B):
        layers = tuple(
            type(layer)(layer.image_keys[b : b + 1], layer.image_values[b : b + 1]) for layer in start.layers
        )
        alone, _ = beam_search(step_of(decoder), DecoderState(layers), 1, beam_size=3, max_length=MAX_LENGTH)
        assert [words_of(row) for row in alone[0]] == [words_of(row) for row in together[b]]


@torch.no_grad()
def test_samples_come_as_often_as_their_probability(decoder, start):
    torch.manual_seed(0)
    captions, log_prob = log_probs_of_all(decoder, start)
    num_samples = 20_000
    drawn = sample(step_of(decoder), start, B, num_samples=num_samples, max_length=MAX_LENGTH)
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
    drawn = sample(step_of(decoder), start, B, num_samples=500, max_length=MAX_LENGTH)
    assert not torch.isin(drawn, torch.tensor([UNK, BOS])).any()
    # Padding only after the end.
    for row in drawn.flatten(0, 1).tolist():
        assert all(word == PAD for word in row[row.index(EOS) + 1 :]) if EOS in row else PAD not in row


def sample_to_the_end(step, state, num_images: int, num_samples: int) -> torch.Tensor:
    """The plain way of `sample`: all captions stay in the batch to the last position."""
    word_BS = torch.full((num_images, num_samples), BOS)
    ended_BS = torch.zeros_like(word_BS, dtype=torch.bool)
    words = []
    for _ in range(MAX_LENGTH):
        logits_BSV, state = step(word_BS, state)
        log_prob_BSV = word_log_probs(logits_BSV)
        noise_BSV = torch.empty_like(log_prob_BSV).exponential_().clamp_(min=1e-30)
        word_BS = torch.where(ended_BS, PAD, (log_prob_BSV - noise_BSV.log()).argmax(dim=-1))
        words.append(word_BS)
        ended_BS = ended_BS | (word_BS == EOS)
    return torch.stack(words, dim=-1)


@torch.no_grad()
def test_ended_samples_leave_the_batch_and_nothing_else_changes(decoder, start):
    rows: list[int] = []
    for seed in range(10):
        torch.manual_seed(seed)
        plain = sample_to_the_end(step_of(decoder), start, B, 4)
        torch.manual_seed(seed)
        drawn = sample(counting(step_of(decoder), rows), start, B, num_samples=4, max_length=MAX_LENGTH)
        assert torch.equal(drawn, plain[..., : drawn.shape[-1]])
        assert (plain[..., drawn.shape[-1] :] == PAD).all()
    assert rows.count(B * 4) < len(rows) and min(rows) < B * 4 // 2


@torch.no_grad()
def test_images_whose_beams_have_ended_leave_the_batch_and_keep_what_they_have_alone(decoder):
    rows: list[int] = []
    for seed in range(8):
        torch.manual_seed(seed)
        image_BGD, position_GD = 3 * torch.randn(B, 5, D), torch.randn(5, D)
        start = decoder.start(image_BGD, position_GD)
        found, score_BS = beam_search(
            counting(step_of(decoder), rows), start, B, beam_size=2, max_length=MAX_LENGTH
        )
        for b in range(B):
            start = decoder.start(image_BGD[b : b + 1], position_GD)
            alone, own_score_BS = beam_search(step_of(decoder), start, 1, beam_size=2, max_length=MAX_LENGTH)
            assert [words_of(row) for row in alone[0]] == [words_of(row) for row in found[b]]
            torch.testing.assert_close(score_BS[b], own_score_BS[0])
    # One hypothesis an image at first, then two, as long as an image is there.
    assert {B, 4, 2 * B} <= set(rows)


class LiveBytes(TorchDispatchMode):
    """The most bytes that were alive at once of what was made since."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0

    def _free(self, size: int) -> None:
        self.alive -= size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {
            tensor.untyped_storage().data_ptr() for tensor in tree_leaves(args) if torch.is_tensor(tensor)
        }
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            storage = tensor.untyped_storage() if torch.is_tensor(tensor) else None
            if storage is not None and storage.data_ptr() not in given:
                self.alive += storage.nbytes()
                weakref.finalize(storage, self._free, storage.nbytes())
                self.peak = max(self.peak, self.alive)
        return made


def peak_bytes(num_words: int, max_length: int) -> int:
    """Of a beam search none of whose captions ends."""
    torch.manual_seed(3)
    decoder = CaptionDecoder(
        torch.randn(num_words, D), D, num_heads=2, d_ff=32, num_layers=2, dropout=0.0
    ).eval()
    start = decoder.start(torch.randn(B, 5, D), torch.randn(5, D))

    def step(word_BS, state):
        logits_BSV, state = step_of(decoder)(word_BS, state)
        logits_BSV[..., EOS] = -torch.inf
        return logits_BSV, state

    with torch.no_grad(), LiveBytes() as live:
        beam_search(step, start, B, beam_size=5, max_length=max_length)
    return live.peak


def test_memory_of_a_search_grows_by_the_words_read_and_not_by_their_number_times_the_vocabulary():
    # So many words that the peak is where the logits are.
    sizes = (20_000, 40_000)
    growth = {num_words: peak_bytes(num_words, 30) - peak_bytes(num_words, 10) for num_words in sizes}
    assert growth[20_000] == growth[40_000] > 0
