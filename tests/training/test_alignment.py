"""Alignment: every score against loops, groups of patches and words, draws, and where the gradient goes."""

import math

import pytest
import torch
import torch.nn.functional as F

from fsgr_model.config.training_params import XeParams
from fsgr_model.training.alignment import (
    LEVELS,
    AlignmentHead,
    ProgressiveAlignment,
    Text,
    contrast,
    level_weights,
    mean_of_groups,
    patch_word_scores,
    region_phrase_score,
    regions,
)
from fsgr_model.training.task import Step
from fsgr_model.training.xe import CrossEntropy
from tests.worlds.captioner import ALIGNMENT, alignment_of, assemble, images_of

CPU = torch.device("cpu")
# By then every level counts.
LATE = Step(seed=3, epoch=7, index=5)
B, E = 4, 6


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


@pytest.fixture
def parts() -> dict[str, torch.Tensor]:
    """Unit rows of regions, phrases, patches and words; of some images there are fewer than of others."""
    torch.manual_seed(0)
    return {
        "region_BRE": unit(B, 3, E),
        "is_region_BR": torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool(),
        "phrase_BPE": unit(B, 2, E),
        "is_phrase_BP": torch.tensor([[1, 1], [1, 0], [1, 1], [1, 0]]).bool(),
        "patch_BGE": unit(B, 9, E),
        "word_BNE": unit(B, 5, E),
        "is_word_BN": torch.tensor(
            [[0, 1, 1, 0, 1], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 1, 0]]
        ).bool(),
    }


def test_the_region_phrase_score_is_that_of_the_formula(parts):
    score_BB = region_phrase_score(
        parts["region_BRE"], parts["is_region_BR"], parts["phrase_BPE"], parts["is_phrase_BP"]
    )
    for b in range(B):
        regions_RE = parts["region_BRE"][b][parts["is_region_BR"][b]]
        for c in range(B):
            terms = []
            for phrase_E in parts["phrase_BPE"][c][parts["is_phrase_BP"][c]]:
                weights = [math.exp(4 * float(phrase_E @ region_E)) for region_E in regions_RE]
                seen_E = sum(w / sum(weights) * r for w, r in zip(weights, regions_RE, strict=True))
                terms.append(math.exp(5 * float(F.cosine_similarity(seen_E, phrase_E, dim=0))))
            assert score_BB[b, c].item() == pytest.approx(math.log(sum(terms) / len(terms)) / 5, abs=1e-6)


def test_the_patch_word_scores_are_those_of_the_formula(parts):
    to_text_BB, to_image_BB = patch_word_scores(parts["patch_BGE"], parts["word_BNE"], parts["is_word_BN"])
    for b in range(B):
        for c in range(B):
            words = parts["word_BNE"][c][parts["is_word_BN"][c]]
            by_patch = [max(float(p @ w) for w in words) for p in parts["patch_BGE"][b]]
            by_word = [max(float(p @ w) for p in parts["patch_BGE"][b]) for w in words]
            assert to_text_BB[b, c].item() == pytest.approx(sum(by_patch) / len(by_patch), abs=1e-6)
            assert to_image_BB[c, b].item() == pytest.approx(sum(by_word) / len(by_word), abs=1e-6)


def test_a_masked_region_phrase_or_word_has_no_influence(parts):
    def scores() -> list[torch.Tensor]:
        coarse = region_phrase_score(
            parts["region_BRE"], parts["is_region_BR"], parts["phrase_BPE"], parts["is_phrase_BP"]
        )
        return [coarse, *patch_word_scores(parts["patch_BGE"], parts["word_BNE"], parts["is_word_BN"])]

    before = scores()
    for rows, mask in (
        ("region_BRE", "is_region_BR"),
        ("phrase_BPE", "is_phrase_BP"),
        ("word_BNE", "is_word_BN"),
    ):
        parts[rows] = torch.where(parts[mask][..., None], parts[rows], unit(*parts[rows].shape))
    for a, b in zip(before, scores(), strict=True):
        assert torch.equal(a, b)


def test_contrast_is_the_mean_of_both_directions():
    torch.manual_seed(0)
    rows, columns = torch.randn(B, B), torch.randn(B, B)
    expected = 0.0
    for b in range(B):
        for score in (rows, columns):
            expected -= math.log(math.exp(3 * score[b, b]) / sum(math.exp(3 * s) for s in score[b])) / (2 * B)
    assert contrast(rows, columns, torch.tensor(3.0)).item() == pytest.approx(expected, rel=1e-5)


def test_regions_are_the_patches_of_one_concept():
    concept_BG = torch.tensor([[7, 7, 2, 900, 2, 7], [5, 5, 5, 5, 5, 5], [3, 2, 1, 0, 4, 5]])
    patch_BGD = torch.randn(3, 6, 4)
    region_BRD, is_region_BR = mean_of_groups(patch_BGD, regions(concept_BG))
    assert is_region_BR.sum(dim=1).tolist() == [3, 1, 6]
    for b, concepts in enumerate(concept_BG):
        for r, concept in enumerate(sorted(set(concepts.tolist()))):
            torch.testing.assert_close(region_BRD[b, r], patch_BGD[b][concepts == concept].mean(dim=0))


def test_the_table_goes_from_coarse_to_fine():
    assert level_weights(8, peak=0.1) == {
        "image_caption": pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.05]),
        "region_phrase": pytest.approx([0, 0.1 / 3, 0.2 / 3, 0.1, 0.1, 0.1, 0.1, 0.1]),
        "patch_word": pytest.approx([0, 0, 0, 0.025, 0.05, 0.075, 0.1, 0.1]),
    }


def test_the_peak_scales_the_whole_table():
    whole, half = level_weights(8, peak=0.1), level_weights(8, peak=0.05)
    for level, weights in whole.items():
        assert half[level] == pytest.approx([weight / 2 for weight in weights])


def test_the_temperature_starts_at_007_and_never_falls_below_001():
    head = AlignmentHead(4, 4)
    assert head.scale().item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        head.log_scale.fill_(9.0)
    assert head.scale().item() == pytest.approx(100.0)
    # At the bound it can still be learned.
    head.scale().backward()
    assert head.log_scale.grad > 0


@pytest.fixture
def assembly(tiny_data, model_params):
    return assemble(tiny_data, "train", model_params, 0)


@pytest.fixture
def alignment(tiny_data, xe_params) -> ProgressiveAlignment:
    return alignment_of(tiny_data, xe_params.model_copy(update={"epochs": 8, "alignment": ALIGNMENT}))


@pytest.fixture
def images(tiny_data, assembly):
    return images_of(tiny_data, "train", assembly)


def test_the_printed_table(capsys, tiny_data, xe_params):
    alignment_of(tiny_data, xe_params.model_copy(update={"epochs": 8, "alignment": ALIGNMENT}))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "epoch   image_caption  region_phrase  patch_word",
        "1       0.1            0              0",
        "2       0.1            0.0333         0",
        "3       0.1            0.0667         0",
        "4       0.05           0.1            0.025",
        "5       0.05           0.1            0.05",
        "6       0.05           0.1            0.075",
        "7-8     0.05           0.1            0.1",
    ]


def test_words_and_phrases_are_means_of_their_tokens(alignment):
    captions = [["a", "tortoiseshell", "cat", "on", "it"], ["dog"]]
    alignment.tower.pieces_of |= {
        w: [300 + len(w), 320, 700][: len(w) // 2 or 1] for c in captions for w in c
    }
    states = alignment.tower(captions)
    text = Text(states, captions)
    # Context length 8: start, "a", three pieces of the long word, one of the cat, "on", end.
    word_CE = [states.token_BCE[0, 2:5].mean(dim=0), states.token_BCE[0, 5]]
    assert text.is_word_BN.tolist() == [[False, True, True, False], [True, False, False, False]]
    torch.testing.assert_close(text.word_BNE[0, 1], word_CE[0])
    torch.testing.assert_close(text.phrase_BPE[0, 0], (word_CE[0] + word_CE[1]) / 2)
    torch.testing.assert_close(text.phrase_BPE[1, 0], states.token_BCE[1, 1])


def test_the_drawn_captions_are_the_images_own_and_depend_on_the_moment_only(alignment):
    ids = sorted(alignment.captions)[:8]
    drawn = alignment.drawn_captions(ids, LATE)
    assert all(caption in alignment.captions[i] for i, caption in zip(ids, drawn, strict=True))
    torch.rand(3)
    assert drawn == alignment.drawn_captions(ids, LATE)
    assert drawn[::-1] == alignment.drawn_captions(ids[::-1], LATE)
    steps = [alignment.drawn_captions(ids, Step(3, 7, step)) for step in range(30)]
    for position, image_id in enumerate(ids):
        seen = {tuple(captions[position]) for captions in steps}
        assert seen == {tuple(caption) for caption in alignment.captions[image_id]}


def test_a_batch_in_another_order_gives_the_same_losses(alignment, assembly, images):
    model = assembly.captioner.eval()
    ids = images.image_ids[:6]
    losses = []
    for order in (ids, [ids[k] for k in (3, 5, 0, 1, 4, 2)]):
        batch = images.batch(order).to(CPU)
        losses.append([t.loss.item() for t in alignment.terms(model.encode(batch.tokens_BTW), batch, LATE)])
    assert len(losses[0]) == 3
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_losses_are_float32_also_under_autocast(alignment, assembly, images):
    model = assembly.captioner.eval()
    batch = images.batch(images.image_ids[:6]).to(CPU)
    encoded = model.encode(batch.tokens_BTW)
    plain = alignment.terms(encoded, batch, LATE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = alignment.terms(encoded, batch, LATE)
    for a, b in zip(plain, mixed, strict=True):
        assert b.loss.dtype == torch.float32
        # Only the text tower is in bf16.
        assert b.loss.item() == pytest.approx(a.loss.item(), rel=0.05)


def test_an_image_that_is_there_twice_is_refused(alignment, assembly, images):
    batch = images.batch([*images.image_ids[:3], images.image_ids[1]]).to(CPU)
    with pytest.raises(AssertionError, match="its own negative"):
        alignment.terms(assembly.captioner.encode(batch.tokens_BTW), batch, LATE)


def test_levels_of_weight_zero_are_left_out(alignment, assembly, images):
    batch = images.batch(images.image_ids[:4]).to(CPU)
    encoded = assembly.captioner.encode(batch.tokens_BTW)
    names = [[t.name for t in alignment.terms(encoded, batch, Step(0, epoch, 0))] for epoch in (1, 2, 4)]
    assert names == [["image_caption"], ["image_caption", "region_phrase"], list(LEVELS)]


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_teaches_the_encoder_and_what_is_before_it_but_neither_decoder_nor_text_tower(
    alignment, assembly, images, level
):
    batch = images.batch(images.image_ids[:5]).to(CPU)
    tokens_BTW = batch.tokens_BTW.requires_grad_()
    terms = {t.name: t for t in alignment.terms(assembly.captioner.encode(tokens_BTW), batch, LATE)}
    terms[level].loss.backward()
    # What a trained tail would get.
    assert tokens_BTW.grad.abs().sum() > 0
    trained = assembly.captioner.trained_weights()
    reached = {name for name, weight in trained.items() if weight.grad is not None and weight.grad.any()}
    assert reached >= {"encoder.visual_embed.0.weight", "encoder.text_embed.0.weight"}
    assert any(name.startswith("encoder.layers.") for name in reached)
    assert all(name.startswith("encoder.") for name in reached)
    heads = {name.split(".")[0] for name, w in alignment.heads.named_parameters() if w.grad is not None}
    assert heads == {level}
    assert frozen_weights(alignment) and not any(w.requires_grad for w in frozen_weights(alignment))


def frozen_weights(alignment) -> list[torch.Tensor]:
    """Those of the text tower's blocks."""
    return [weight for block in alignment.tower.layers.blocks for weight in block.parameters()]


@pytest.mark.slow
def test_alignment_alone_learns_to_tell_which_caption_belongs_to_which_image(alignment, assembly, images):
    model = assembly.captioner
    batch = images.batch(images.image_ids[:12]).to(CPU)
    weights = [*model.encoder.parameters(), *alignment.heads.parameters()]
    optimiser = torch.optim.Adam(weights, lr=5e-3)
    losses = []
    for step in range(150):
        torch.manual_seed(step)
        terms = alignment.terms(model.encode(batch.tokens_BTW), batch, Step(3, 7, step))
        losses.append([term.loss.item() for term in terms])
        sum(term.loss for term in terms).backward()
        optimiser.step()
        optimiser.zero_grad()
    # Images of the same thing in the same place cannot be told apart: chance is ln 12, but the best is not 0.
    for level in zip(*losses[-20:], strict=True):
        assert sum(level) / 20 < 0.8 * math.log(12)


def test_captions_never_reach_the_encoding_of_an_image(alignment, tiny_data, assembly):
    """Neither those of a batch, nor what the heads hold: they are training's alone."""
    images = images_of(tiny_data, "val", assembly)
    model = assembly.captioner.eval()
    batch = images.batch(images.image_ids)
    before = model.encode(batch.to(CPU).tokens_BTW)
    images.captions = {image_id: [[2, 5, 3]] for image_id in images.image_ids}
    with torch.no_grad():
        for weight in alignment.heads.parameters():
            weight.add_(1.0)
    after = model.encode(images.batch(images.image_ids).to(CPU).tokens_BTW)
    assert torch.equal(before.image_BGD, after.image_BGD)
    inside = {id(weight) for weight in model.parameters()}
    outside = [*alignment.heads.parameters(), *frozen_weights(alignment)]
    assert inside.isdisjoint(id(weight) for weight in outside)


def test_cross_entropy_itself_is_the_same_with_and_without_what_is_added(alignment, assembly, images):
    model = assembly.captioner.train()
    batch = images.batch(images.image_ids[:5]).to(CPU)
    torch.manual_seed(1)
    plain, nothing = CrossEntropy().loss(model, batch, LATE)
    torch.manual_seed(1)
    total, report = CrossEntropy([alignment]).loss(model, batch, LATE)
    assert nothing == {} and list(report) == ["xe", *LEVELS]
    assert report["xe"] == plain.item()
    weights = [0.05, 0.1, 0.1]
    expected = plain.item() + sum(w * report[level] for w, level in zip(weights, LEVELS, strict=True))
    assert total.item() == pytest.approx(expected, rel=1e-6)


def test_the_parameter_is_off_unless_asked_for(xe_params: XeParams):
    assert xe_params.alignment is None and xe_params.contrast is None
