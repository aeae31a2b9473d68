import pytest
import torch
from torch.nn import functional as F

from fsgr_model.clip.maskclip import denoise_prompts, label_patches, smooth_by_keys
from fsgr_model.clip.model_building import build_model
from fsgr_model.clip.split import Tail
from fsgr_model.config.params import LabelsParams, RefineParams
from tests.worlds.clip import tiny_config


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(4)
    return build_model(tiny_config(), "tiny").eval()


@torch.inference_mode()
def test_labels_follow_the_value_path(model):
    """The last block written out for one patch at a time, from the raw weights."""
    tokens_BTW = torch.randn(2, 17, 32)
    codebook_KE = F.normalize(torch.randn(9, 16), dim=-1)
    found = label_patches(Tail(model, 2, "value"), tokens_BTW, codebook_KE, LabelsParams())
    block, visual = model.visual.transformer.resblocks[2], model.visual
    for image in range(2):
        for patch in range(16):
            x = tokens_BTW[image, 1 + patch]
            value = block.attn.in_proj_weight[64:] @ block.ln_1(x) + block.attn.in_proj_bias[64:]
            x = x + block.attn.out_proj(value)
            x = x + block.mlp(block.ln_2(x))
            joint = visual.ln_post(x) @ visual.proj
            assert found[image, patch] == F.cosine_similarity(joint[None], codebook_KE).argmax()
    assert len(found.unique()) > 1


@pytest.mark.parametrize("attention", ["value", "csa", "qk_kk", "plain"])
@pytest.mark.parametrize("options", [(0.999, False), (0.0, True)])
def test_options_are_applied(model, attention, options):
    # Of two images it may happen that all patches keep their concepts.
    tokens_BTW = torch.randn(20, 17, 32)
    codebook_KE = F.normalize(torch.randn(9, 16), dim=-1)
    tail = Tail(model, 1, attention)
    plain = label_patches(tail, tokens_BTW, codebook_KE, LabelsParams(attention=attention))
    refine = RefineParams(prompt_denoising=options[0], key_smoothing=options[1])
    changed = label_patches(tail, tokens_BTW, codebook_KE, LabelsParams(attention=attention, refine=refine))
    assert plain.shape == changed.shape == (20, 16)
    assert not torch.equal(plain, changed)


def test_denoising_drops_concepts_that_no_patch_is_sure_of():
    # Confidences of 100 times these scores: patch 0 is sure of concept 0, patch 1 wavers between 1 and 2.
    score_BGK = torch.tensor([[[0.30, 0.10, 0.10], [0.10, 0.200, 0.199]]])
    kept = denoise_prompts(score_BGK, 0.6)
    assert kept.argmax(-1).tolist() == [[0, 0]]
    assert denoise_prompts(score_BGK, 0.5).argmax(-1).tolist() == [[0, 1]]


def test_a_low_scale_is_less_sure():
    score_BGK = torch.tensor([[[0.30, 0.10, 0.10], [0.10, 0.20, 0.20]]])
    # The second patch is sure of two concepts by 0.42 each at scale 10, and by 0.34 at scale 1.
    assert denoise_prompts(score_BGK, 0.35, logit_scale=10.0).argmax(-1).tolist() == [[0, 1]]
    assert denoise_prompts(score_BGK, 0.35, logit_scale=1.0).argmax(-1).tolist() == [[0, 0]]


def test_denoising_leaves_every_image_a_concept():
    score_BGK = torch.tensor([[[0.2, 0.2005, 0.2], [0.2, 0.2, 0.2]]])
    assert denoise_prompts(score_BGK, 0.9).argmax(-1).tolist() == [[1, 1]]


def test_smoothing_sums_confidences_by_the_cosine_of_keys():
    score_BGK, key_BGW = torch.randn(1, 4, 3) / 50, torch.randn(1, 4, 6)
    found = smooth_by_keys(score_BGK, key_BGW)
    confidence = (100 * score_BGK[0]).softmax(-1)
    for g in range(4):
        weights = torch.stack([F.cosine_similarity(key_BGW[0, g], key_BGW[0, h], dim=0) for h in range(4)])
        torch.testing.assert_close(found[0, g], weights @ confidence)
