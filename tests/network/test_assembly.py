"""The sizes of the full model, as the COCO preset asks for it."""

from pathlib import Path

import torch
import torch.nn.functional as F

from fsgr_model.clip.model_building import build_model
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.split import Tail
from fsgr_model.config.params import load_params
from fsgr_model.network.assembly import describe, parameter_counts
from fsgr_model.network.captioner import Captioner

ROOT = Path(__file__).parents[2]
VOCABULARY = 10_201


def coco_captioner() -> Captioner:
    """Random weights everywhere; CLIP's text tower, which has no part in it, is cut down to one block."""
    params = load_params(ROOT / "presets" / "coco.yaml")
    config = open_clip.get_model_config(params.clip.model)
    config["text_cfg"] |= {"vocab_size": 100, "layers": 1}
    tail = Tail(build_model(config, params.clip.model), params.clip.cut, params.model.align)
    codebook_KE, word_VE = (F.normalize(torch.randn(rows, 512), dim=-1) for rows in (80, VOCABULARY))
    return Captioner(tail, tail.grid_size[0], codebook_KE, word_VE, params=params.model)


def test_parameter_counts_of_the_coco_preset():
    captioner = coco_captioner()
    counts = parameter_counts(captioner)
    assert counts["tail.adapters"] == 6 * 295_872 == 1_775_232
    assert counts["tail.prompts"] == 6 * 100 * 768 + 590_592 == 1_051_392
    assert counts["encoder.visual_embed"] == 656_896
    assert counts["encoder.text_embed"] == 263_680
    assert abs(counts["encoder.layers"] - 2 * 3.153e6) < 2 * 2e3
    assert abs(counts["decoder.layers"] - 4 * 4.206e6) < 4 * 3e3
    assert counts["decoder.word_embedding"] == counts["decoder.output"] == VOCABULARY * 512
    trained = captioner.trained_weights()
    assert sum(counts.values()) == sum(weight.numel() for weight in trained.values())
    assert trained["tail.prompts.vectors_NPW"].numel() == 460_800
    table = describe(captioner)
    assert "tail.adapters              1,775,232" in table
    assert f"{sum(counts.values()):,}" in table
    # Six blocks, their final norm and the projection.
    assert f"{6 * 7_087_872 + 2 * 768 + 768 * 512:,}" in table
