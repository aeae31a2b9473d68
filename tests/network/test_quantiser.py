"""The semantic quantiser: preselection, one concept a patch, indices of the codebook, gradients."""

import pytest
import torch
import torch.nn.functional as F

from fsgr_model.network.quantiser import SemanticQuantiser

B, G, E, K, P = 3, 7, 12, 20, 5


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return tuple(F.normalize(torch.randn(*shape), dim=-1) for shape in [(K, E), (B, E), (B, G, E)])


def test_evaluation_takes_the_best_preselected_concept(inputs):
    codebook, whole, align = inputs
    quantised = SemanticQuantiser(codebook, P, inverse_frequency=False).eval()(whole, align)
    for b in range(B):
        kept = (codebook @ whole[b]).topk(P).indices
        for g in range(G):
            best = kept[(codebook[kept] @ align[b, g]).argmax()]
            assert quantised.concept_BG[b, g] == best
            torch.testing.assert_close(quantised.text_BGE[b, g], codebook[best])


def test_training_draws_whole_concepts_and_reports_the_best_without_noise(inputs):
    codebook, whole, align = inputs
    quantiser = SemanticQuantiser(codebook, P, inverse_frequency=False)
    best = quantiser.eval()(whole, align).concept_BG
    drawn = quantiser.train()(whole, align * 0.01)
    assert torch.equal(quantiser(whole, align).concept_BG, best)
    distance = torch.cdist(drawn.text_BGE.flatten(0, 1), codebook).min(dim=-1).values
    assert distance.max() < 1e-5
    other_draw = quantiser(whole, align * 0.01)
    assert not torch.equal(drawn.text_BGE, other_draw.text_BGE)


def test_inverse_frequency_divides_by_the_patch_count_plus_one(inputs):
    codebook, whole, align = inputs
    plain = SemanticQuantiser(codebook, P, inverse_frequency=False).eval()(whole, align)
    scaled = SemanticQuantiser(codebook, P, inverse_frequency=True).eval()(whole, align)
    for b in range(B):
        counts = torch.bincount(plain.concept_BG[b], minlength=K)[plain.concept_BG[b]]
        torch.testing.assert_close(scaled.text_BGE[b] * (counts[:, None] + 1), plain.text_BGE[b])


def test_gradient_reaches_the_patches(inputs):
    codebook, whole, align = inputs
    for training in (True, False):
        leaf = align.clone().requires_grad_()
        quantiser = SemanticQuantiser(codebook, P, inverse_frequency=False).train(training)
        (quantiser(whole, leaf).text_BGE * torch.randn(B, G, E)).sum().backward()
        assert leaf.grad is not None and leaf.grad.abs().sum() > 0


def test_a_codebook_smaller_than_top_k_is_used_whole(inputs):
    codebook, _, _ = inputs
    assert SemanticQuantiser(codebook[:3], P, inverse_frequency=False).top_k == 3
