"""Attention over [memory; words] against plain attention over keys that stand side by side."""

import pytest
import torch
import torch.nn.functional as F

from fsgr_model.network.attention import MultiHeadAttention
from fsgr_model.network.decoder import CaptionDecoder
from fsgr_model.network.memory import LearnedSlots, MemoryAttention, Prototypes, self_attention

N, L, D, H, M = 3, 5, 16, 4, 7


def filled(num_heads: int = H) -> Prototypes:
    """Prototypes and segment vectors drawn at random."""
    memory = Prototypes(D, num_heads)
    memory.replace(torch.randn(M, D), torch.randn(M, D))
    with torch.no_grad():
        memory.word_segment_D.normal_()
        memory.prototype_segment_D.normal_()
    return memory


@pytest.fixture
def word_NLD() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(N, L, D)


def heads(x_NMD: torch.Tensor) -> torch.Tensor:
    return x_NMD.view(len(x_NMD), -1, H, D // H).transpose(1, 2)


def visible() -> torch.Tensor:
    """All of the memory, and the words up to one's own."""
    return torch.cat([torch.ones(L, M), torch.ones(L, L).tril()], dim=1).bool()


def earlier(length: int) -> torch.Tensor | None:
    """What the decoder lets its words see of each other."""
    return torch.ones(length, length, dtype=torch.bool).tril() if length > 1 else None


def test_prototypes_are_further_keys_and_values(word_NLD):
    memory = filled()
    attention = MemoryAttention(D, H, memory)
    word_key, word_value = attention.key(word_NLD), attention.value(word_NLD)
    key = torch.cat(
        [(memory.key_MD + memory.prototype_segment_D).expand(N, M, D), word_key + memory.word_segment_D], 1
    )
    value = torch.cat([memory.value_MD.expand(N, M, D), word_value], dim=1)
    mixed = F.scaled_dot_product_attention(
        heads(attention.query(word_NLD)), heads(key), heads(value), attn_mask=visible()
    )
    expected = attention.out(mixed.transpose(1, 2).flatten(2))
    actual = attention(word_NLD, *attention.keys_values(word_NLD, word_NLD), bias=earlier(L))
    torch.testing.assert_close(actual, expected)


def test_slots_are_further_keys_and_values(word_NLD):
    memory = LearnedSlots(D, num_heads=H, num_slots=M)
    attention = MemoryAttention(D, H, memory)
    words = attention.keys_values(word_NLD, word_NLD)
    slots = ((D // H) ** 0.5 * memory.key_HMC, M**0.5 * memory.value_HMC)
    key, value = (
        torch.cat([slot.expand(N, -1, -1, -1), word], 2) for slot, word in zip(slots, words, strict=True)
    )
    mixed = F.scaled_dot_product_attention(heads(attention.query(word_NLD)), key, value, attn_mask=visible())
    expected = attention.out(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(word_NLD, *words, bias=earlier(L)), expected)
    assert {name for name, _ in memory.named_parameters()} == {"key_HMC", "value_HMC"}


def test_slots_start_with_the_spread_of_m2():
    torch.manual_seed(0)
    seen = LearnedSlots(512, num_heads=8, num_slots=256)(torch.empty(0))
    assert seen.key_HMC.std().item() == pytest.approx(1 / 64**0.5, rel=0.02)
    assert seen.value_HMC.std().item() == pytest.approx(1 / 256**0.5, rel=0.02)


@pytest.mark.parametrize("length", [1, L])
def test_without_prototypes_it_is_plain_attention_to_the_last_digit(word_NLD, length):
    plain, empty = MultiHeadAttention(D, H), MemoryAttention(D, H, Prototypes(D, H))
    empty.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        empty.memory.word_segment_D.normal_()
    word_NLD = word_NLD[:, :length]
    outputs = [
        layer(word_NLD, *layer.keys_values(word_NLD, word_NLD), bias=earlier(length))
        for layer in (plain, empty)
    ]
    assert torch.equal(*outputs)
    empty.memory.replace(torch.randn(M, D), torch.randn(M, D))
    assert not torch.allclose(
        outputs[0], empty(word_NLD, *empty.keys_values(word_NLD, word_NLD), bias=earlier(length)), atol=1e-3
    )


def test_none_is_the_plain_module():
    assert type(self_attention(D, H, "none", M)) is MultiHeadAttention


def test_gradient_reaches_the_segments_but_not_the_prototypes(word_NLD):
    memory = filled()
    attention = MemoryAttention(D, H, memory)
    attention(word_NLD, *attention.keys_values(word_NLD, word_NLD), bias=earlier(L)).square().sum().backward()
    assert memory.word_segment_D.grad.abs().max() > 1e-3
    assert memory.prototype_segment_D.grad.abs().max() > 1e-3
    assert not memory.key_MD.requires_grad and not memory.value_MD.requires_grad


def test_prototypes_may_be_replaced_between_a_pass_and_its_gradient(word_NLD):
    grads = []
    for replaced in (False, True):
        torch.manual_seed(1)
        memory = filled()
        attention = MemoryAttention(D, H, memory)
        loss = attention(word_NLD, *attention.keys_values(word_NLD, word_NLD), bias=earlier(L)).square().sum()
        if replaced:
            memory.replace(torch.randn(M, D), torch.randn(M, D))
        loss.backward()
        grads.append(attention.query.weight.grad)
    assert torch.equal(*grads)


def test_the_order_of_the_prototypes_is_of_no_consequence(word_NLD):
    memory = filled()
    attention = MemoryAttention(D, H, memory)
    words = attention.keys_values(word_NLD, word_NLD)
    before = attention(word_NLD, *words, bias=earlier(L))
    order = torch.randperm(M)
    memory.replace(memory.key_MD[order], memory.value_MD[order])
    torch.testing.assert_close(attention(word_NLD, *words, bias=earlier(L)), before)


def decoder_with_prototypes() -> CaptionDecoder:
    word_VE = F.normalize(torch.randn(11, D), dim=-1)
    return CaptionDecoder(
        word_VE, D, num_heads=H, d_ff=32, num_layers=2, dropout=0.0, memory="prototypes", memory_size=M
    )


@pytest.mark.parametrize("rows", [0, M])
def test_weights_are_loaded_with_as_many_prototypes_as_they_have(rows):
    torch.manual_seed(0)
    saved, other = decoder_with_prototypes(), decoder_with_prototypes()
    for layer in saved.layers:
        layer.self_attention.memory.replace(torch.randn(rows, D), torch.randn(rows, D))
    for layer in other.layers:
        layer.self_attention.memory.replace(torch.randn(2, D), torch.randn(2, D))
    tensors = {name: tensor.clone() for name, tensor in saved.state_dict().items()}
    other.load_state_dict(tensors)
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name
