"""A project so small that it trains in seconds: pictures of one colour, captions that name it."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fsgr_model.clip.loading import save_clip
from fsgr_model.clip.model_building import build_model, default_preprocessing
from fsgr_model.config.params import Params, load_params
from fsgr_model.datasets.normal_form import CaptionRecord, Dataset, ImageRecord, Split, write_dataset
from fsgr_model.inference.model_folder import ModelFiles, pipeline_model
from fsgr_model.runtime.artifacts import save_json, sha256_file
from fsgr_model.training.run import Run
from pipeline.captions import caption_split, read_test_split
from pipeline.codebook import make_codebook
from pipeline.features import extract_features
from pipeline.labels import make_label_maps
from pipeline.train_xe import train_xe
from pipeline.vocab import make_word_list

ROOT = Path(__file__).parents[2]
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 40, 230), "white": (250, 250, 250)}
COUNTS: dict[Split, int] = {"train": 32, "val": 8, "test": 12}
CLIP_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with params.yaml, data/ up to the captions of a network trained by XE, and its scores."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("project")
    data = root / "data"
    params = write_params(root)
    write_pictures(data / "dataset")
    torch.manual_seed(3)
    preprocessing = default_preprocessing(CLIP_CONFIG, {"resize_mode": params.clip.resize_mode})
    save_clip(
        data / "clip",
        build_model(CLIP_CONFIG, "tiny"),
        "tiny",
        CLIP_CONFIG,
        preprocessing=preprocessing,
        origin={"seed": 3},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(root))
        extract_features(
            data / "dataset",
            clip_folder=data / "clip",
            cut=params.clip.cut,
            cache_dtype=params.clip.cache_dtype,
            runtime=params.runtime,
            out=data / "features",
        )
        make_codebook(params.codebook, data / "dataset", clip_folder=data / "clip", folder=data / "codebook")
        make_word_list(
            data / "dataset", clip_folder=data / "clip", folder=data / "vocab", params=params.vocab
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
        out, curve = data / "models" / "xe", root / "xe.tsv"
        run = Run("train_xe", data, out, curve, params.seed, save_minutes=10.0, optimiser=params.optimiser)
        train_xe(run, params.lr, params.model, params.xe)
    weights = data / "models" / "xe"
    parts, features = read_test_split(data, params.model)
    captions = caption_split(
        parts, features, weights, params.model, decode=params.decode, precision="auto", batch_size=5
    )
    save_json(data / "captions" / "xe.json", captions)
    fact = {"what": "sha256 of model", "value": sha256_file(weights / "model.safetensors")}
    scores = {"CIDEr": 1.25, "images": COUNTS["test"], "omitted": [], "provenance": [fact]}
    save_json(root / "metrics" / "xe.json", scores)
    return root


@pytest.fixture
def files(project: Path) -> ModelFiles:
    return pipeline_model("xe", project)


def write_params(root: Path) -> Params:
    values: dict[str, Any] = yaml.safe_load((ROOT / "presets" / "flickr8k.yaml").read_text())
    values["lr"] = 3e-3
    values["clip"] |= {"cut": 1}
    values["codebook"] = {"concepts": "dataset", "templates": "simple"}
    values["labels"] |= {"attention": "value"}
    values["vocab"]["min_count"] = 1
    values["model"] |= {"d_model": 24, "num_heads": 4, "d_ff": 32, "encoder_layers": 1, "decoder_layers": 2}
    values["model"] |= {"top_k": 3, "dropout": 0.0}
    values["model"]["tail"] = {"adapters": True, "prompts": 2, "prompt_start": "patches"}
    values["xe"] |= {"epochs": 12, "batch_size": 4, "schedule": None, "max_length": 10}
    values["decode"] |= {"beam_size": 3, "max_length": 10}
    values["runtime"] = {"workers": 0, "caption_batch": 5}
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    return load_params(root / "params.yaml")


def write_pictures(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    draw = np.random.default_rng(0)
    images, captions = [], []
    splits = [split for split, count in COUNTS.items() for _ in range(count)]
    for image_id, split in enumerate(splits, start=101):
        name = list(COLOURS)[draw.integers(len(COLOURS))]
        path = folder / "images" / f"{image_id}.png"
        pixels = np.array(COLOURS[name]) + draw.integers(-20, 21, (24, 40, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        content = path.read_bytes()
        key = hashlib.sha256(content).hexdigest()
        images.append(ImageRecord(image_id, split, str(path), 40, 24, len(content), key))
        for number, text in enumerate((f"a {name} picture", f"this is a {name} wall")):
            captions.append(CaptionRecord(image_id, 10 * image_id + number, text, text.split()))
    categories = [{"id": number, "name": name} for number, name in enumerate(COLOURS, start=1)]
    report = {"splits": {split: {"images": n, "captions": 2 * n} for split, n in COUNTS.items()}}
    instances: dict[str, list[dict[str, Any]]] = {"categories": categories, "annotations": []}
    write_dataset(folder, Dataset(images, captions, instances, report))
