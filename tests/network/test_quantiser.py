"""The semantic quantiser: preselection, one concept a patch, indices of the codebook, gradients."""

import time

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

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


def test_a_low_scale_lets_other_concepts_through(inputs):
    """The straight-through gradient is that of the softmax at the CLIP's own scale."""
    codebook, whole, align = inputs
    for scale in (3.0, 100.0):
        leaf = align.clone().requires_grad_()
        quantiser = SemanticQuantiser(codebook, P, inverse_frequency=False, logit_scale=scale).eval()
        (found,) = torch.autograd.grad(quantiser(whole, leaf).text_BGE[..., 0].sum(), leaf)
        kept_BPE = codebook[(whole @ codebook.T).topk(P).indices]
        soft_BGP = (scale * leaf @ kept_BPE.transpose(1, 2)).softmax(dim=-1)
        (wanted,) = torch.autograd.grad((soft_BGP @ kept_BPE)[..., 0].sum(), leaf)
        torch.testing.assert_close(found, wanted)


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


@pytest.mark.parametrize("training", [True, False])
def test_autocast_does_not_reach_the_logits(inputs, training):
    """Concepts that differ in the fourth digit of their cosine, which bf16 does not keep."""
    codebook, whole, align = inputs
    close = F.normalize(codebook[:1] + 1e-3 * codebook, dim=-1)
    quantiser = SemanticQuantiser(close, K, inverse_frequency=False).train(training)
    torch.manual_seed(1)
    expected = quantiser(whole, align)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        found = quantiser(whole, align)
    assert torch.equal(found.concept_BG, expected.concept_BG)
    assert torch.equal(found.text_BGE, expected.text_BGE)
    assert len(expected.concept_BG.unique()) > 5


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        self.numel = max([self.numel, *(t.numel() for t in (made,) if isinstance(t, torch.Tensor))])
        return made


def test_a_codebook_of_thousands_costs_what_its_preselection_costs():
    """Nothing of size patches x concepts: 5,000 concepts cost one product with the image's embedding."""
    torch.manual_seed(0)
    images, patches, width, concepts, kept = 8, 196, 128, 5000, 20
    codebook, whole = (F.normalize(torch.randn(rows, width), dim=-1) for rows in (concepts, images))
    align = F.normalize(torch.randn(images, patches, width), dim=-1).requires_grad_()
    quantiser = SemanticQuantiser(codebook, kept, inverse_frequency=False)
    start = time.monotonic()
    with LargestTensor() as largest:
        quantised = quantiser(whole, align)
        quantised.text_BGE.sum().backward()
    assert time.monotonic() - start < 2.0
    assert largest.numel <= max(concepts * width, images * patches * width)
    distance = 2 - 2 * (quantised.text_BGE * codebook[quantised.concept_BG]).sum(-1)
    assert quantised.concept_BG.max() > 255 and distance.min() < 1e-5
    assert all(len(image.unique()) <= kept for image in quantised.concept_BG)
