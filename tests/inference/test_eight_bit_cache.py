"""A network on the 8-bit cache: captions of image files are those of the stage, other caches are refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from fsgr_model.clip.token_cache import read_tokens
from fsgr_model.config.params import Params, load_params
from fsgr_model.datasets.image_file import open_rgb
from fsgr_model.datasets.normal_form import read_images
from fsgr_model.inference.image_captioner import ImageCaptioner
from fsgr_model.inference.model_folder import pipeline_model
from fsgr_model.network.assembly import build_captioner, put_weights, read_weights, save_weights
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_store import RowStore
from pipeline.captions import caption_split, read_test_split
from pipeline.features import extract_features
from pipeline.labels import make_label_maps


@pytest.fixture(scope="module")
def eight_bit(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with features and label maps in int8, and its weights as if they were trained on them."""
    root = tmp_path_factory.mktemp("eight_bit")
    data = root / "data"
    for name in ("clip", "codebook", "dataset", "vocab"):
        shutil.copytree(project / "data" / name, data / name)
    values = yaml.safe_load((project / "params.yaml").read_text())
    values["clip"]["cache_dtype"] = "int8"
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    params = load_params(root / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(root))
        make_caches(data, params)
    parts, _ = read_test_split(data, params.model)
    assembly = build_captioner(parts, params.model, seed=0)
    path = project / "data" / "models" / "xe" / "model.safetensors"
    put_weights(path, read_weights(path)[1], assembly)
    (data / "models" / "xe").mkdir(parents=True)
    save_weights(data / "models" / "xe", assembly)
    return root


def make_caches(data: Path, params: Params) -> None:
    extract_features(
        data / "dataset",
        clip_folder=data / "clip",
        cut=params.clip.cut,
        cache_dtype=params.clip.cache_dtype,
        runtime=params.runtime,
        out=data / "features",
    )
    make_label_maps(
        data / "clip",
        params.clip.cut,
        data / "codebook",
        cache_dtype=params.clip.cache_dtype,
        features=data / "features",
        params=params.labels,
        runtime=params.runtime,
        out=data / "labels",
    )


def captions_of(data: Path, weights: Path, params: Params) -> dict[int, str]:
    parts, features = read_test_split(data, params.model)
    found = caption_split(
        parts,
        features,
        weights,
        params.model,
        decode=params.decode,
        precision=params.precision,
        batch_size=params.runtime.caption_batch,
    )
    return {int(each["image_id"]): str(each["caption"]) for each in found}


def test_image_files_get_tokens_labels_and_captions_of_the_cache(eight_bit: Path) -> None:
    captioner = ImageCaptioner(pipeline_model("xe", eight_bit))
    records = read_images(eight_bit / "data" / "dataset", "test")
    ids = [record.image_id for record in records]
    images = [captioner.prepare(open_rgb(Path(record.path))) for record in records]
    store = RowStore(eight_bit / "data" / "features" / "test.h5", {"cache_dtype": "int8"})
    cached_BTW, found_BTW = read_tokens(store, ids, torch.device("cpu")), captioner.tokens(images)
    # The stage multiplies with other kernels: a value at the middle between two codes may get the other one.
    step_BT1 = cached_BTW.abs().amax(dim=-1, keepdim=True) / 127
    assert (found_BTW == cached_BTW).float().mean() > 0.97
    assert ((found_BTW - cached_BTW).abs() <= 1.01 * step_BT1).all()
    maps = RowStore(eight_bit / "data" / "labels" / "test.h5", {}).rows(ids)
    drawn = np.stack([captioner.label_map(image).ravel() for image in images])
    assert (drawn == maps).mean() > 0.99
    params = load_params(eight_bit / "params.yaml")
    of_stage = captions_of(eight_bit / "data", eight_bit / "data" / "models" / "xe", params)
    described = captioner.describe(images)
    assert dict(zip(ids, (each.captions[0].text for each in described), strict=True)) == of_stage
    assert len(set(of_stage.values())) > 2, "the small network tells its pictures apart"


def test_weights_and_features_of_different_roundings_are_refused(project: Path, eight_bit: Path) -> None:
    params = load_params(eight_bit / "params.yaml")
    for data, weights in ((project, eight_bit), (eight_bit, project)):
        with pytest.raises(UserError, match=r"was made with another trunk: .*'cache_dtype': 'int8'"):
            captions_of(data / "data", weights / "data" / "models" / "xe", params)
