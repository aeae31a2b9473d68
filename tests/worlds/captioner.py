"""A world small enough to train on in a second: features show a thing, captions name it."""

from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fsgr_model.clip.codebook import Codebook, load_codebook
from fsgr_model.clip.loading import clip_identity, load_clip, load_description, save_clip
from fsgr_model.clip.maskclip import label_identity
from fsgr_model.clip.model_building import build_model, default_preprocessing
from fsgr_model.clip.text_tower import TextTower
from fsgr_model.clip.token_cache import trunk_identity
from fsgr_model.config.model_params import ModelParams, TailParams
from fsgr_model.config.params import LabelsParams
from fsgr_model.config.training_params import (
    AlignmentParams,
    ContrastParams,
    OptimiserParams,
    ScstParams,
    XeParams,
)
from fsgr_model.datasets.normal_form import (
    CaptionRecord,
    Dataset,
    ImageRecord,
    Split,
    read_tokens,
    tokens_of,
    write_dataset,
)
from fsgr_model.network.assembly import Assembly, Parts, build_captioner, read_parts
from fsgr_model.runtime.row_store import RowFormat, RowStore, RowWriter
from fsgr_model.scoring.cider_d import CiderDByBatch
from fsgr_model.scoring.document_frequencies import DocumentFrequencies
from fsgr_model.text.vocabulary import Vocabulary, build_vocabulary, save_word_embeddings
from fsgr_model.training.alignment import ProgressiveAlignment
from fsgr_model.training.batches import CaptionedImages
from fsgr_model.training.inputs import SplitInputs, captioned_images
from fsgr_model.training.run import Run
from pipeline.train_xe import progressive_alignment, train_xe

THINGS = ["cat", "dog", "house", "tree", "boat", "car"]
PLACES = ["on a beach", "in the snow", "at night", "in a room"]
TEMPLATES = ["a {} {}", "there is a {} {}", "we see a {} {}"]
COUNTS = {"train": 24, "val": 8, "test": 8}
CUT, WIDTH, JOINT = 1, 16, 12
CPU = torch.device("cpu")

CLIP_CONFIG = {
    "embed_dim": JOINT,
    "vision_cfg": {"image_size": 12, "patch_size": 4, "layers": 2, "width": WIDTH, "head_width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """The artifacts of all stages before training."""
    data = tmp_path_factory.mktemp("tiny") / "data"
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    scenes = {}
    images, captions = [], []
    for split, count in COUNTS.items():
        for _ in range(count):
            image_id = len(images) + 1
            scenes[image_id] = (int(rng.integers(len(THINGS))), int(rng.integers(len(PLACES))))
            images.append(ImageRecord(image_id, split, f"{image_id}.png", 12, 12, 1, "0"))
            for template in TEMPLATES:
                text = template.format(THINGS[scenes[image_id][0]], PLACES[scenes[image_id][1]])
                captions.append(CaptionRecord(image_id, 1000 + len(captions), text, text.split()))
    (data / "dataset").mkdir(parents=True)
    write_dataset(data / "dataset", Dataset(images, captions, {"categories": [], "annotations": []}, {}))
    identity = write_clip(data)
    write_features(data, images, scenes, identity, rng)
    write_text(data, captions, images, identity)
    write_labels(data, images, scenes, identity)
    return data


def write_clip(data: Path) -> dict:
    preprocessing = default_preprocessing(CLIP_CONFIG, {})
    save_clip(
        data / "clip",
        build_model(CLIP_CONFIG, "tiny"),
        "tiny",
        CLIP_CONFIG,
        preprocessing=preprocessing,
        origin={},
    )
    return clip_identity(load_description(data / "clip"))


def write_features(data, images, scenes, identity, rng) -> None:
    thing_TW = rng.normal(size=(len(THINGS), 10, WIDTH))
    place_TW = rng.normal(size=(len(PLACES), 10, WIDTH))
    (data / "features").mkdir()
    for split in COUNTS:
        ids = [image.image_id for image in images if image.split == split]
        tokens = [
            thing_TW[scenes[i][0]] + place_TW[scenes[i][1]] + 0.1 * rng.normal(size=(10, WIDTH)) for i in ids
        ]
        path = data / "features" / f"{split}.h5"
        with RowWriter(
            path, RowFormat("tokens", (10, WIDTH), "float16"), ids, trunk_identity(identity, CUT)
        ) as rows:
            rows.write(ids, np.stack(tokens))


def write_text(data, captions, images, identity) -> None:
    unit = torch.nn.functional.normalize
    Codebook(THINGS, unit(torch.randn(len(THINGS), JOINT), dim=-1), {"concepts": "tiny"}).save(
        data / "codebook"
    )
    training = {image.image_id for image in images if image.split == "train"}
    tokens = [caption.tokens for caption in captions if caption.image_id in training]
    vocabulary = build_vocabulary(Counter(chain.from_iterable(tokens)), 1)
    (data / "vocab").mkdir()
    vocabulary.save(data / "vocab" / "words.json")
    save_word_embeddings(
        data / "vocab" / "embeddings.safetensors",
        vocabulary,
        unit(torch.randn(len(vocabulary), JOINT), dim=-1),
    )
    of_image = [
        [vocabulary.encode(c.tokens, len(c.tokens)) for c in captions if c.image_id == image_id]
        for image_id in sorted(training)
    ]
    frequencies = DocumentFrequencies.build(of_image, len(vocabulary))
    frequencies.save(data / "vocab" / "document_frequencies.safetensors", vocabulary)


def write_labels(data, images, scenes, identity) -> None:
    """The six upper patches show the thing; below lies the ground, which is labelled as a tree."""
    codebook_identity = load_codebook(data / "codebook").identity
    made_with = label_identity(trunk_identity(identity, CUT), codebook_identity, LabelsParams())
    ids = [image.image_id for image in images if image.split == "train"]
    rows = np.stack([[scenes[image_id][0]] * 6 + [THINGS.index("tree")] * 3 for image_id in ids])
    with RowWriter(
        data / "labels" / "train.h5", RowFormat("labels", (9,), "uint16"), ids, made_with
    ) as writer:
        writer.write(ids, rows)


def parts_of(data: Path, split: Split = "train", *, codebook: bool = True) -> Parts:
    """What a captioner is built of, cut where the features of the split say."""
    clip = load_clip(data / "clip", CPU)
    features = RowStore(data / "features" / f"{split}.h5", clip.identity)
    return read_parts(data, clip, features.identity, codebook)


def assemble(data: Path, split: Split, params: ModelParams, seed: int) -> Assembly:
    """The network for the features of a split, as the stages build it."""
    return build_captioner(parts_of(data, split, codebook=params.semantics), params, seed)


def split_of(data: Path, split: Split) -> SplitInputs:
    tokens = tokens_of(read_tokens(data / "dataset"), split)
    return SplitInputs(tokens, RowStore(data / "features" / f"{split}.h5", {}))


def images_of(
    data: Path, split: Split, assembly: Assembly, labels: RowStore | None = None
) -> CaptionedImages:
    """The images of a split with their captions, cut at 10 words."""
    params = XeParams(epochs=1, batch_size=5, patience=9, max_length=10)
    return captioned_images(split_of(data, split), assembly.vocabulary, params, labels=labels)


def reward_of(data: Path, vocabulary: Vocabulary, end_token: bool = True) -> CiderDByBatch:
    """The reward of SCST on the training split."""
    path = data / "vocab" / "document_frequencies.safetensors"
    frequencies = DocumentFrequencies.load(path, vocabulary)
    references = vocabulary.encode_table(split_of(data, "train").tokens)
    return CiderDByBatch(references, frequencies, end_token)


def alignment_of(data: Path, xe: XeParams) -> ProgressiveAlignment:
    """The alignment losses on the training split."""
    tokens = split_of(data, "train").tokens
    tower = TextTower(load_clip(data / "clip", CPU), set(tokens.counts()))
    return progressive_alignment(tokens, tower, 24, xe, seed=7)


def with_tail(
    params: ModelParams, *, adapters: bool = False, prompts: int = 0, start: str = "random"
) -> ModelParams:
    """The parameters of a network that trains these inside CLIP's tail."""
    tail = TailParams(adapters=adapters, prompts=prompts, prompt_start=start) if adapters or prompts else None
    return params.model_copy(update={"tail": tail})


CONTRAST = ContrastParams(weight=0.1, anchors=4096)
ADAM = OptimiserParams(name="adam", weight_decay=0, grad_clip_norm=1.0, visual_lr_factor=0.1)
MUON = ADAM.model_copy(update={"name": "muon"})
ALIGNMENT = AlignmentParams(weight=0.1)


@pytest.fixture
def model_params() -> ModelParams:
    return ModelParams(
        d_model=24, num_heads=4, d_ff=32, encoder_layers=1, decoder_layers=2, dropout=0.1, top_k=3
    )


@pytest.fixture
def xe_params() -> XeParams:
    return XeParams(epochs=3, batch_size=5, patience=9, max_length=10)


@pytest.fixture
def scst_params() -> ScstParams:
    return ScstParams(lr=5e-4, epochs=2, batch_size=6, samples=3, patience=9, max_length=10)


@pytest.fixture
def run_in(tmp_path, tiny_data, monkeypatch):
    """Make a `Run` whose outputs and resume folder lie in a folder of their own."""

    def make(name: str, stage: str = "train_xe") -> Run:
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / name))
        (tmp_path / name).mkdir(exist_ok=True)
        return Run(stage, tiny_data, tmp_path / name / "model", tmp_path / name / "curve.tsv", 7, 10.0, ADAM)

    return make


@pytest.fixture(scope="session")
def runs(tmp_path_factory, tiny_data):
    """Train by XE, or give what was trained so before: these runs are looked at and not changed.

    Further arguments are fields of `Run`.
    """
    torch.set_num_threads(1)
    made: dict[str, Run] = {}

    def trained(lr: float, model: ModelParams, xe: XeParams, **fields: Any) -> Run:
        key = repr((lr, model, xe, fields))
        if key not in made:
            root = tmp_path_factory.mktemp("run")
            run = Run("train_xe", tiny_data, root / "model", root / "curve.tsv", 7, 10.0, ADAM)
            run = replace(run, **fields)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("DVC_ROOT", str(root))
                train_xe(run, lr, model, xe)
            made[key] = run
        return made[key]

    return trained
