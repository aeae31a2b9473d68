from pathlib import Path

import numpy as np
import pytest
import torch

from fsgr_model.clip.codebook import Codebook, load_codebook
from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.maskclip import label_identity, label_patches
from fsgr_model.clip.split import Tail
from fsgr_model.clip.token_cache import CacheDtype, open_of_trunk, read_tokens, trunk_identity
from fsgr_model.config.params import CodebookParams, LabelsParams, RuntimeParams
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_store import RowStore
from pipeline.codebook import make_codebook
from pipeline.features import extract_features
from pipeline.labels import make_label_maps

RUNTIME = RuntimeParams(workers=0, image_batch=5)
PARAMS = LabelsParams(attention="csa")


@pytest.fixture
def cache_dtype() -> CacheDtype:
    return "float16"


@pytest.fixture
def folders(dataset, clip_folder, tmp_path, monkeypatch, cache_dtype):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))
    extract_features(
        dataset,
        clip_folder=clip_folder,
        cut=1,
        cache_dtype=cache_dtype,
        runtime=RUNTIME,
        out=tmp_path / "features",
    )
    codebook = CodebookParams(concepts="dataset", templates="simple")
    make_codebook(codebook, dataset, clip_folder=clip_folder, folder=tmp_path / "codebook")
    return clip_folder, tmp_path


def label(
    clip_folder: Path,
    root: Path,
    *,
    cut: int = 1,
    cache_dtype: CacheDtype = "float16",
    codebook: str = "codebook",
) -> None:
    make_label_maps(
        clip_folder,
        cut,
        root / codebook,
        cache_dtype=cache_dtype,
        features=root / "features",
        params=PARAMS,
        runtime=RUNTIME,
        out=root / "labels",
    )


@pytest.mark.parametrize("cache_dtype", ["float16", "int8"])
def test_maps_are_the_labels_of_the_cached_tokens(folders, cache_dtype):
    clip_folder, root = folders
    label(clip_folder, root, cache_dtype=cache_dtype)
    clip = load_clip(clip_folder, torch.device("cpu"))
    codebook = load_codebook(root / "codebook")
    identity = label_identity(trunk_identity(clip.identity, 1, cache_dtype), codebook.identity, PARAMS)
    maps = open_of_trunk(root / "labels" / "train.h5", identity)
    features = RowStore(root / "features" / "train.h5", {})
    assert maps.image_ids == features.image_ids
    assert (maps.row_shape, maps.dtype) == ((16,), np.uint16)
    tokens_BTW = read_tokens(features, features.image_ids, torch.device("cpu"))
    expected = label_patches(Tail(clip.model, 1, "csa"), tokens_BTW, codebook.embeddings_KE, PARAMS)
    np.testing.assert_array_equal(maps.load_all(), expected.numpy())


def test_features_of_another_cut_are_refused(folders):
    clip_folder, root = folders
    with pytest.raises(UserError, match="another cut: the file says 1, this run needs 2"):
        label(clip_folder, root, cut=2)


@pytest.mark.parametrize(("cache_dtype", "needed"), [("float16", "int8"), ("int8", "float16")])
def test_features_of_another_rounding_are_refused(folders, cache_dtype, needed):
    clip_folder, root = folders
    with pytest.raises(UserError, match=rf"another cache_dtype: the file says .*, this run needs '{needed}'"):
        label(clip_folder, root, cache_dtype=needed)


def test_codebook_of_another_clip_is_refused(folders):
    clip_folder, root = folders
    Codebook(["cat"], torch.ones(1, 16), {"weights": "f" * 64}).save(root / "other")
    with pytest.raises(UserError, match="codebook was made with CLIP weights ffffffffffff"):
        label(clip_folder, root, codebook="other")
