"""From a checkpoint of each sort of tower to features, label maps and the captioner's input."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from fsgr_model.clip.codebook import Codebook
from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.token_cache import read_tokens, token_format, token_shape
from fsgr_model.clip.towers import make_tail
from fsgr_model.config.params import LabelsParams, RuntimeParams
from fsgr_model.network.captioner import Captioner
from fsgr_model.runtime.row_store import RowStore
from pipeline.clip import prepare_clip
from pipeline.features import extract_features
from pipeline.labels import make_label_maps
from tests.worlds.towers import ALL, small_tower

RUNTIME = RuntimeParams(workers=0, image_batch=8)
# Kind, cut, tokens and width of the cache, patches and width of the grid.
SORTS = [
    ("timm, attention pool (SigLIP)", 1, (16, 32), (16, 32)),
    ("timm, PE-Core", 2, (17, 32), (16, 32)),
    ("open_clip, CoCa", 0, (17, 32), (16, 32)),
    ("timm, ConvNeXt", 4, (4, 24), (4, 24)),
    ("timm, FastViT", 2, (64, 16), (4, 64)),
]


@pytest.mark.parametrize("cache_dtype", ["float16", "int8"])
@pytest.mark.parametrize(("kind", "cut", "cached", "grid"), SORTS)
def test_from_the_checkpoint_to_the_captioner(
    kind, cut, cached, grid, dataset, tmp_path, monkeypatch, model_params, cache_dtype
):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))
    (tmp_path / "tower.json").write_text(json.dumps(ALL[kind]))
    torch.save(small_tower(kind).state_dict(), tmp_path / "weights.pt")
    prepare_clip(
        str(tmp_path / "tower.json"),
        pretrained=str(tmp_path / "weights.pt"),
        resize_mode="squash",
        preprocess_as="ViT-B-16-SigLIP/webli",
        training=None,
        dataset=Path("none"),
        runtime=RUNTIME,
        out=tmp_path / "clip",
    )
    extract_features(
        dataset,
        clip_folder=tmp_path / "clip",
        cut=cut,
        cache_dtype=cache_dtype,
        runtime=RUNTIME,
        out=tmp_path / "features",
    )
    clip = load_clip(tmp_path / "clip", torch.device("cpu"))
    tail = make_tail(clip.model, cut, "value")
    concept_KE = F.normalize(torch.randn(5, tail.joint_width), dim=-1)
    Codebook(list("abcde"), concept_KE, {"weights": clip.identity["weights"]}).save(tmp_path / "codebook")
    make_label_maps(
        tmp_path / "clip",
        cut,
        tmp_path / "codebook",
        cache_dtype=cache_dtype,
        features=tmp_path / "features",
        params=LabelsParams(attention="value"),
        runtime=RUNTIME,
        out=tmp_path / "labels",
    )
    features = RowStore(tmp_path / "features" / "val.h5", {**clip.identity, "cut": cut})
    labels = RowStore(tmp_path / "labels" / "val.h5", {})
    assert token_shape(features) == cached and labels.row_shape == grid[:1]
    assert features.dtype == cache_dtype and features.row_bytes == token_format(cached, cache_dtype).bytes
    assert clip.identity["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
    tokens_BTW = read_tokens(features, features.image_ids, torch.device("cpu"))
    expected_BG = (F.normalize(tail.aligned(tokens_BTW), dim=-1) @ concept_KE.T).argmax(dim=-1)
    assert torch.equal(torch.from_numpy(labels.load_all()).long(), expected_BG)
    params = model_params.model_copy(update={"align": "value", "tail": None})
    words_VE = F.normalize(torch.randn(9, tail.joint_width), dim=-1)
    captioner = Captioner(tail, tail.grid_size[0], concept_KE, words_VE, params=params).eval()
    with torch.inference_mode():
        encoded = captioner.encode(tokens_BTW)
        assert tail(tokens_BTW).grid_BGW.shape[1:] == grid
    assert encoded.image_BGD.shape == (4, grid[0], params.d_model) and encoded.image_BGD.isfinite().all()
