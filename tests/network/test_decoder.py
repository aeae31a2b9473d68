"""The decoder: CLIP's word vectors survive, later words have no influence, steps equal one pass."""

import pytest
import torch

from fsgr_model.network.decoder import CaptionDecoder, DecoderState
from fsgr_model.network.memory import LearnedSlots, Prototypes

B, S, L, G, D, V = 2, 3, 6, 9, 16, 11


@pytest.fixture(
    params=[
        ("post", "none"),
        ("double", "none"),
        ("pre", "prototypes"),
        ("post", "prototypes"),
        ("pre", "learned"),
    ],
    ids="-".join,
)
def decoder(request) -> CaptionDecoder:
    residual, memory = request.param
    torch.manual_seed(0)
    word_VE = torch.nn.functional.normalize(torch.randn(V, D), dim=-1)
    decoder = CaptionDecoder(
        word_VE,
        D,
        num_heads=4,
        d_ff=32,
        num_layers=2,
        dropout=0.3,
        residual=residual,
        memory=memory,
        memory_size=5,
    )
    draw_memory(decoder)
    return decoder.eval()


@torch.no_grad()
def draw_memory(decoder: CaptionDecoder) -> None:
    """Prototypes as if they had been found, or slots as if they had been trained."""
    for module in decoder.modules():
        if isinstance(module, Prototypes):
            module.replace(torch.randn(5, D), torch.randn(5, D))
            module.word_segment_D.normal_()
            module.prototype_segment_D.normal_()
        elif isinstance(module, LearnedSlots):
            module.key_HMC.normal_()
            module.value_HMC.normal_()


@pytest.fixture
def start(decoder: CaptionDecoder) -> DecoderState:
    return decoder.start(torch.randn(B, G, D), torch.randn(G, D))


def test_steps_with_state_equal_one_pass(decoder, start):
    word_BSL = torch.randint(0, V, (B, S, L))
    whole_BSLV, _ = decoder(word_BSL, start)
    state, steps = start, []
    for position in range(L):
        logits_BS1V, state = decoder(word_BSL[..., position : position + 1], state)
        steps.append(logits_BS1V)
    torch.testing.assert_close(torch.cat(steps, dim=2), whole_BSLV, atol=1e-5, rtol=1e-5)


def test_later_words_have_no_influence(decoder, start):
    word_BSL = torch.randint(0, V, (B, S, L))
    changed_BSL = word_BSL.clone()
    changed_BSL[..., 4:] = (changed_BSL[..., 4:] + 1) % V
    before, after = decoder(word_BSL, start)[0], decoder(changed_BSL, start)[0]
    assert torch.equal(before[:, :, :4], after[:, :, :4])
    assert not torch.equal(before[:, :, 4:], after[:, :, 4:])


def test_captions_of_an_image_do_not_see_each_other(decoder, start):
    word_BSL = torch.randint(0, V, (B, S, L))
    changed_BSL = word_BSL.clone()
    changed_BSL[:, 0] = (changed_BSL[:, 0] + 1) % V
    before, after = decoder(word_BSL, start)[0], decoder(changed_BSL, start)[0]
    torch.testing.assert_close(before[:, 1:], after[:, 1:])
    assert not torch.allclose(before[:, 0], after[:, 0])


def test_selected_state_follows_its_captions(decoder, start):
    word_BSL = torch.randint(0, V, (B, S, 2))
    _, state = decoder(word_BSL[..., :1], start)
    swap_N = torch.tensor([2, 0, 1, 3, 5, 4])
    swapped_BSL = word_BSL.flatten(0, 1)[swap_N].view(B, S, 2)
    expected, _ = decoder(swapped_BSL, start)
    actual, _ = decoder(swapped_BSL[..., 1:], state.select(swap_N))
    torch.testing.assert_close(actual[:, :, 0], expected[:, :, 1], atol=1e-5, rtol=1e-5)


def test_word_vectors_keep_their_directions(decoder):
    torch.manual_seed(0)
    word_VE = torch.nn.functional.normalize(torch.randn(V, D), dim=-1)
    stored_VE = torch.nn.functional.normalize(decoder.word_embedding.weight, dim=-1)
    torch.testing.assert_close(stored_VE, word_VE)
