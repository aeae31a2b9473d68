"""Patch contrast against eq. 2 written as loops, and what it does to patches."""

import math

import pytest
import torch
import torch.nn.functional as F

from fsgr_model.training import contrast
from fsgr_model.training.contrast import PatchContrast, supervised_contrast
from fsgr_model.training.inputs import label_maps
from fsgr_model.training.task import Step
from tests.worlds.captioner import assemble, images_of, parts_of

START = Step(seed=0, epoch=1, index=0)


def brute_force(feature_ND: torch.Tensor, label_N: torch.Tensor) -> torch.Tensor:
    """Eq. 2 of arXiv 2004.11362 (outside sum, divided by the number of anchors), a term at a time."""
    z = [feature / feature.norm() for feature in feature_ND]
    total = torch.zeros((), dtype=feature_ND.dtype)
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        positives = [p for p in others if label_N[p] == label_N[i]]
        log_sum = torch.stack([z[i] @ z[a] / 0.07 for a in others]).exp().sum().log()
        for p in positives:
            total = total - (z[i] @ z[p] / 0.07 - log_sum) / len(positives)
    return total / len(z)


@pytest.fixture
def patches() -> tuple[torch.Tensor, torch.Tensor]:
    """Labels 0 to 3 and a patch whose label no other has."""
    torch.manual_seed(0)
    label_N = torch.randint(0, 4, (29,))
    label_N[11] = 65_535
    return torch.randn(29, 8, requires_grad=True), label_N


@pytest.mark.parametrize("similarities_a_chunk", [1, 29 * 4, 10**9])
def test_value_and_gradient_are_those_of_the_formula(patches, monkeypatch, similarities_a_chunk):
    monkeypatch.setattr(contrast, "SIMILARITIES_PER_CHUNK", similarities_a_chunk)
    feature_ND, label_N = patches
    loss = supervised_contrast(feature_ND, label_N, torch.arange(29))
    (3.0 * loss).backward()
    exact_ND = feature_ND.detach().double().requires_grad_()
    expected = brute_force(exact_ND, label_N)
    (3.0 * expected).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(feature_ND.grad, exact_ND.grad.float(), atol=1e-6, rtol=1e-5)


def test_the_order_of_the_patches_changes_nothing(patches):
    feature_ND, label_N = patches
    order = torch.randperm(29)
    losses = [
        supervised_contrast(feature_ND, label_N, torch.arange(29)),
        supervised_contrast(feature_ND[order], label_N[order], torch.arange(29)),
        supervised_contrast(feature_ND, label_N, order),
    ]
    torch.testing.assert_close(losses[1], losses[0])
    torch.testing.assert_close(losses[2], losses[0])


def test_an_anchor_without_a_positive_adds_nothing_but_counts():
    feature_ND = torch.randn(5, 8, requires_grad=True)
    lonely = supervised_contrast(feature_ND, torch.arange(5), torch.arange(5))
    lonely.backward()
    assert lonely.item() == 0.0 and (feature_ND.grad == 0).all()
    one_pair = torch.tensor([7, 7, 1, 2, 3])
    of_all = supervised_contrast(feature_ND, one_pair, torch.arange(5))
    of_pair = supervised_contrast(feature_ND, one_pair, torch.tensor([0, 1]))
    torch.testing.assert_close(of_all, of_pair * 2 / 5)


def test_descending_draws_equal_labels_together_and_others_apart(patches):
    feature_ND, label_N = patches
    same_NN = (label_N[:, None] == label_N) & ~torch.eye(29, dtype=torch.bool)
    other_NN = label_N[:, None] != label_N
    similarity = []
    for _ in range(30):
        unit_ND = F.normalize(feature_ND.detach(), dim=-1)
        cosine_NN = unit_ND @ unit_ND.T
        similarity.append((cosine_NN[same_NN].mean().item(), cosine_NN[other_NN].mean().item()))
        supervised_contrast(feature_ND, label_N, torch.arange(29)).backward()
        with torch.no_grad():
            feature_ND -= 2.0 * feature_ND.grad
        feature_ND.grad = None
    assert similarity[-1][0] > similarity[0][0] + 0.3 and similarity[-1][1] < similarity[0][1] - 0.1


def test_a_drawn_subset_is_an_unbiased_estimate(patches):
    feature_ND, label_N = patches
    feature_ND = feature_ND.detach()
    whole = supervised_contrast(feature_ND, label_N, torch.arange(29)).item()
    drawn = PatchContrast(1.0, 6)
    moments = [Step(1, 1, step) for step in range(400)]
    anchors = [drawn._anchors(29, step) for step in moments]
    assert all(len(anchor.unique()) == 6 for anchor in anchors)
    assert torch.equal(anchors[3], drawn._anchors(29, moments[3])) and not torch.equal(anchors[3], anchors[4])
    losses = torch.stack([supervised_contrast(feature_ND, label_N, anchor) for anchor in anchors])
    assert losses.mean().item() == pytest.approx(whole, abs=4 * losses.std().item() / math.sqrt(400))


def test_float32_also_under_autocast(patches):
    feature_ND, label_N = patches
    plain = supervised_contrast(feature_ND, label_N, torch.arange(29))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = supervised_contrast(feature_ND, label_N, torch.arange(29))
    assert mixed.dtype == torch.float32 and torch.equal(mixed, plain)


def test_the_gradient_reaches_the_embedded_patches_and_what_is_before_them_only(tiny_data, model_params):
    assembly = assemble(tiny_data, "train", model_params, 0)
    labels = label_maps(tiny_data, parts_of(tiny_data))
    images = images_of(tiny_data, "train", assembly, labels=labels)
    batch = images.batch(images.image_ids[:5]).to(torch.device("cpu"))
    tokens_BTW = batch.tokens_BTW.requires_grad_()
    (term,) = PatchContrast(0.25, 100).terms(assembly.captioner.encode(tokens_BTW), batch, START)
    term.loss.backward()
    assert (term.name, term.weight) == ("contrast", 0.25)
    # What a trained tail would get.
    assert tokens_BTW.grad is not None and tokens_BTW.grad.abs().sum() > 0
    reached = {name for name, weight in assembly.captioner.named_parameters() if weight.grad is not None}
    linear_and_norm = ("0.weight", "0.bias", "3.weight", "3.bias")
    assert reached == {f"encoder.visual_embed.{part}" for part in linear_and_norm}
