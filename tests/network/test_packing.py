"""Words packed without their padding: nothing that counts is lost, moved, or computed otherwise."""

import pytest
import torch

from fsgr_model.network.decoder import CaptionDecoder
from fsgr_model.network.packing import Packing
from tests.network.test_decoder import decoder, start  # noqa: F401  fixtures

B, S, L, V = 2, 3, 6, 11
# The words that count of each caption; one image has a row of nothing but padding.
LENGTHS = torch.tensor([[6, 2, 4], [1, 3, 0]])


@pytest.fixture
def counted_BSL() -> torch.Tensor:
    return torch.arange(L) < LENGTHS[..., None]


def test_what_counts_comes_back_in_order(counted_BSL):
    x_BSL = torch.arange(B * S * L).view(B, S, L)
    packing = Packing.of(counted_BSL)
    packed_BQ = packing.pack(x_BSL)
    assert packed_BQ.shape == (B, 12)
    assert torch.equal(packed_BQ[packing.counted_BQ], x_BSL[counted_BSL])
    assert torch.equal(packing.counted(packed_BQ[..., None])[:, 0], x_BSL[counted_BSL])
    assert torch.equal(packing.position_BQ, packed_BQ % L)


def test_a_word_sees_its_own_caption_up_to_itself(counted_BSL):
    packing = Packing.of(counted_BSL)
    for image in range(B):
        for word, other in torch.cartesian_prod(torch.arange(12), torch.arange(12)).tolist():
            caption, position = divmod(int(packing.place_BQ[image, word]), L)
            other_caption, other_position = divmod(int(packing.place_BQ[image, other]), L)
            expected = caption == other_caption and other_position <= position
            assert packing.sees_BQQ[image, word, other] == expected


def test_packed_words_are_read_as_padded_ones(decoder: CaptionDecoder, start, counted_BSL):  # noqa: F811
    word_BSL = torch.randint(0, V, (B, S, L))
    padded_BSLV, padded_state = decoder(word_BSL, start)
    packing = Packing.of(counted_BSL)
    packed_NV, packed_state = decoder(word_BSL, start, packing)
    torch.testing.assert_close(packed_NV, padded_BSLV[counted_BSL], atol=1e-5, rtol=1e-5)
    for packed, padded in zip(packed_state.layers, padded_state.layers, strict=True):
        for name in ("word_keys", "word_values"):
            packed_BQHC, padded_NLHC = (getattr(x, name).transpose(1, 2) for x in (packed, padded))
            expected = padded_NLHC[counted_BSL.flatten(0, 1)]
            torch.testing.assert_close(packed_BQHC[packing.counted_BQ], expected, atol=1e-5, rtol=1e-5)


def test_so_are_their_gradients(decoder: CaptionDecoder, start, counted_BSL):  # noqa: F811
    word_BSL, weight_BSLV = torch.randint(0, V, (B, S, L)), torch.randn(B, S, L, V)
    gradients = []
    for packing in (None, Packing.of(counted_BSL)):
        logits, _ = decoder(word_BSL, start, packing)
        counted_NV = logits[counted_BSL] if packing is None else logits
        loss = (counted_NV.softmax(-1) * weight_BSLV[counted_BSL]).sum()
        gradients.append(torch.autograd.grad(loss, list(decoder.parameters()), retain_graph=True))
    for padded, packed in zip(*gradients, strict=True):
        torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-4)


def test_padding_has_no_influence(decoder: CaptionDecoder, start, counted_BSL):  # noqa: F811
    word_BSL = torch.randint(0, V, (B, S, L))
    changed_BSL = torch.where(counted_BSL, word_BSL, (word_BSL + 1) % V)
    packing = Packing.of(counted_BSL)
    assert torch.equal(decoder(word_BSL, start, packing)[0], decoder(changed_BSL, start, packing)[0])
