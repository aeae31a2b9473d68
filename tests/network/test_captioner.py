"""The whole network, on a small CLIP with random weights."""

import pytest
import torch
import torch.nn.functional as F

from fsgr_model.clip.model_building import build_model
from fsgr_model.clip.split import Tail
from fsgr_model.clip.towers import make_tail
from fsgr_model.config.model_params import ModelParams, PrototypeParams, SlotParams, TailParams
from fsgr_model.kernels import products as linear
from fsgr_model.kernels.onednn_layers import (
    OneDnnLinear,
    TrainedLinear,
    use_onednn_for_inference,
    use_onednn_for_training,
)
from fsgr_model.network.captioner import Captioner
from fsgr_model.network.decoder import MAX_POSITIONS
from fsgr_model.network.encoder import GeometryBias
from fsgr_model.network.positions import sine_positions, sine_positions_2d

SIDE, WIDTH, JOINT, V, K = 3, 16, 12, 13, 6

CONFIG = {
    "embed_dim": JOINT,
    "vision_cfg": {"image_size": 12, "patch_size": 4, "layers": 2, "width": WIDTH, "head_width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}
TAIL = TailParams(adapters=True, prompts=2, prompt_start="random")
PROTOTYPES = PrototypeParams(kind="prototypes", size=5, window=4, refresh=3, neighbours=2)


@pytest.fixture
def word_VE() -> torch.Tensor:
    torch.manual_seed(1)
    return F.normalize(torch.randn(V, JOINT), dim=-1)


def build(word_VE: torch.Tensor, **changes: object) -> Captioner:
    torch.manual_seed(0)
    params = ModelParams(
        d_model=24, num_heads=4, d_ff=32, encoder_layers=2, decoder_layers=2, dropout=0.1, top_k=3, **changes
    )
    codebook_KE = F.normalize(torch.randn(K, JOINT), dim=-1)
    tail = Tail(build_model(CONFIG, "small"), 1, params.align)
    return Captioner(tail, SIDE, codebook_KE if params.semantics else None, word_VE, params=params)


@pytest.fixture
def captioner(word_VE) -> Captioner:
    return build(word_VE)


def test_word_vectors_and_positions_survive_initialisation(captioner, word_VE):
    assert torch.equal(captioner.decoder.word_embedding.weight, word_VE * JOINT**0.5)
    assert torch.equal(captioner.decoder.position_LD, sine_positions(MAX_POSITIONS, 24))
    torch.testing.assert_close(captioner.encoder.position_GD, sine_positions_2d(SIDE, 24))


def test_every_head_of_the_encoder_sees_its_own_patch_at_first(captioner):
    biases = [module() for module in captioner.encoder.modules() if isinstance(module, GeometryBias)]
    assert len(biases) == 2
    for bias_HGG in biases:
        torch.testing.assert_close(bias_HGG.diagonal(dim1=1, dim2=2), torch.zeros(4, 9), atol=1e-4, rtol=0)


def test_the_tail_is_frozen_and_never_in_training_mode(captioner):
    captioner.train()
    assert captioner.encoder.training and captioner.decoder.training
    assert not any(module.training for module in captioner.tail.modules())
    logits = captioner(torch.randn(2, 10, WIDTH), torch.randint(0, V, (2, 3, 4)))
    logits.sum().backward()
    assert all(weight.grad is None for weight in captioner.tail.parameters())
    trained = [weight for weight in captioner.parameters() if weight.requires_grad]
    assert trained and all(weight.grad is not None for weight in trained)


def test_images_of_a_batch_do_not_mix(captioner):
    captioner.eval()
    tokens, words = torch.randn(4, 10, WIDTH), torch.randint(0, V, (4, 2, 5))
    order = torch.tensor([3, 1, 0, 2])
    together = captioner(tokens, words)
    torch.testing.assert_close(captioner(tokens[order], words[order]), together[order], atol=1e-5, rtol=1e-5)


def test_the_concept_of_a_patch_is_a_row_of_the_codebook(captioner):
    concept_BG = captioner.eval().encode(torch.randn(5, 10, WIDTH)).concept_BG
    assert concept_BG.shape == (5, SIDE * SIDE)
    assert concept_BG.min() >= 0 and concept_BG.max() < K
    # Only preselected concepts: at most top_k of them in an image.
    assert all(len(image.unique()) <= 3 for image in concept_BG)


def test_without_semantics_there_is_no_codebook(word_VE):
    captioner = build(word_VE, semantics=False).eval()
    assert captioner.quantiser is None
    assert not any("quantiser" in name or "text_" in name for name in captioner.state_dict())
    encoded = captioner.encode(torch.randn(2, 10, WIDTH))
    assert encoded.concept_BG is None
    assert captioner.decoder(torch.randint(0, V, (2, 3, 4)), encoded.start)[0].shape == (2, 3, 4, V)


def test_a_checkpoint_holds_the_trained_weights_and_the_prototypes(word_VE):
    plain, remembering = build(word_VE), build(word_VE, memory=PROTOTYPES)
    assert plain.checkpoint_tensors().keys() == plain.trained_weights().keys()
    memory = remembering.decoder.layers[0].self_attention.memory
    memory.replace(torch.randn(5, 24), torch.randn(5, 24))
    held = remembering.checkpoint_tensors()
    assert len(held.keys() - remembering.trained_weights().keys()) == 4
    assert torch.equal(held["decoder.layers.0.self_attention.memory.key_MD"], memory.key_MD)


@pytest.mark.parametrize(
    "changes", [{"residual": "double"}, {"residual": "pre"}, {"memory": SlotParams(kind="learned", size=5)}]
)
def test_every_weight_is_trained(word_VE, changes):
    captioner = build(word_VE, **changes)
    captioner(torch.randn(2, 10, WIDTH), torch.randint(0, V, (2, 3, 4))).square().sum().backward()
    assert [name for name, weight in captioner.trained_weights().items() if weight.grad is None] == []


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
@pytest.mark.parametrize("changes", [{}, {"tail": TAIL}, {"semantics": False}])
def test_by_onednn_it_predicts_the_same(word_VE, changes, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    captioner = build(word_VE, **changes).eval()
    tokens_BTW, word_BSL = torch.randn(2, 10, WIDTH), torch.randint(0, V, (2, 3, 4))
    with torch.no_grad():
        expected = captioner(tokens_BTW, word_BSL)
        use_onednn_for_inference(captioner)
        found = captioner(tokens_BTW, word_BSL)
    assert any(isinstance(module, OneDnnLinear) for module in captioner.tail.modules())
    assert any(isinstance(module, OneDnnLinear) for module in captioner.decoder.modules())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
@pytest.mark.parametrize("changes", [{}, {"tail": TAIL}, {"semantics": False}])
def test_trained_by_onednn_it_has_the_same_gradients(word_VE, changes, monkeypatch):
    captioner = build(word_VE, **changes).eval()
    tokens_BTW, word_BSL = torch.randn(2, 10, WIDTH), torch.randint(0, V, (2, 3, 4))

    def gradients() -> dict[str, torch.Tensor]:
        captioner.zero_grad()
        captioner(tokens_BTW, word_BSL).square().mean().backward()
        return {name: weight.grad for name, weight in captioner.trained_weights().items()}

    expected = gradients()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(linear, "LARGE_PRODUCT", 0)
    use_onednn_for_training(captioner)
    assert any(isinstance(module, TrainedLinear) for module in captioner.tail.modules())
    found = gradients()
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
@pytest.mark.parametrize("align", ["csa", "qk_kk", "value"])
def test_by_onednn_behind_a_resnet_too(word_VE, align, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    config = {**CONFIG, "vision_cfg": {"image_size": 96, "layers": [1, 1, 1, 1], "width": 8}}
    tail = make_tail(build_model(config, "small-rn"), 0, align)
    params = ModelParams(
        d_model=24,
        num_heads=4,
        d_ff=32,
        encoder_layers=1,
        decoder_layers=1,
        dropout=0.0,
        top_k=3,
        align=align,
    )
    captioner = Captioner(
        tail, SIDE, F.normalize(torch.randn(K, JOINT), dim=-1), word_VE, params=params
    ).eval()
    tokens_BTW, word_BSL = torch.randn(2, 10, 256), torch.randint(0, V, (2, 3, 4))
    with torch.no_grad():
        expected = captioner(tokens_BTW, word_BSL)
        use_onednn_for_inference(captioner)
        torch.testing.assert_close(captioner(tokens_BTW, word_BSL), expected, atol=1e-5, rtol=1e-4)
