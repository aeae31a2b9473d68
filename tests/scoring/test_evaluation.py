"""The stage `evaluate` on a made-up data folder: three test images of two domains."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fsgr_model.clip.codebook import Codebook
from fsgr_model.clip.loading import clip_identity, load_description, save_clip
from fsgr_model.clip.model_building import build_model, default_preprocessing
from fsgr_model.clip.token_cache import trunk_identity
from fsgr_model.config.params import EvaluateParams
from fsgr_model.config.text_params import Segmenter, TextParams
from fsgr_model.datasets.normal_form import CaptionRecord, Dataset, ImageRecord, write_dataset
from fsgr_model.runtime.artifacts import load_json, save_json, sha256_file
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_store import RowFormat, RowWriter
from fsgr_model.scoring import provenance
from fsgr_model.scoring.image_scores import ImageScores
from fsgr_model.text.ptb_tokenizer import ptb_tokenize
from pipeline.evaluate import evaluate
from tests.worlds.clip import tiny_config

TEXTS = {1: ["a dog runs", "the dog"], 2: ["a cat sleeps here"], 3: ["two dogs sit"], 4: ["a training cat"]}
SPOKEN = {1: "a dog runs", 2: "a dog sleeps on a", 3: "two dogs sit"}
CATEGORIES = [
    {"id": 1, "name": "dog", "supercategory": "object"},
    {"id": 2, "name": "cat", "supercategory": "object"},
]
OFF = EvaluateParams(java=[], sheet_images=2)


def make_data(
    data: Path, with_instances: bool = True, resize_mode: str = "squash", with_references: bool = True
) -> None:
    (data / "dataset").mkdir(parents=True)
    images = []
    for image_id in TEXTS:
        path = data / "dataset" / f"{image_id}.png"
        Image.new("RGB", (8, 8), (40 * image_id, 90, 90)).save(path)
        split = "train" if image_id == 4 else "test"
        domain = "unseen" if image_id == 3 else "seen"
        images.append(
            ImageRecord(image_id, split, str(path), 8, 8, path.stat().st_size, sha256_file(path), domain)
        )
    captions = [
        CaptionRecord(image_id, 10 * image_id + number, text, ptb_tokenize(text))
        for image_id, texts in TEXTS.items()
        for number, text in enumerate(texts)
        if with_references or image_id == 4
    ]
    square = [[0, 0, 8, 0, 8, 4, 0, 4]]
    objects = [
        {"id": image_id, "image_id": image_id, "category_id": category_id, "segmentation": square}
        for image_id, category_id in ((1, 1), (2, 2), (3, 1), (4, 2))
    ]
    instances = {"categories": CATEGORIES, "annotations": objects if with_instances else []}
    write_dataset(data / "dataset", Dataset(images, captions, instances, {}))
    Codebook(["cat", "dog", "sky"], torch.eye(3), {}).save(data / "codebook")
    save_json(data / "vocab" / "words.json", ["<unk>"])
    write_clip(data, resize_mode)
    for phase in ("xe", "scst"):
        rows = [{"image_id": image_id, "caption": caption} for image_id, caption in SPOKEN.items()]
        save_json(data / "captions" / f"{phase}.json", rows)
        (data / "models" / phase).mkdir(parents=True)
        (data / "models" / phase / "model.safetensors").write_bytes(phase.encode())
    labels = np.array([[1, 1, 2, 2], [0, 1, 2, 2], [1, 1, 1, 1]])
    with RowWriter(data / "labels" / "test.h5", RowFormat("labels", (4,), "uint16"), [1, 2, 3], {}) as writer:
        writer.write([1, 2, 3], labels)


def write_clip(data: Path, resize_mode: str) -> None:
    """A random CLIP of four patches, and trunk tokens of the test images."""
    config = tiny_config(image_size=16, layers=2)
    preprocessing = default_preprocessing(config, {"resize_mode": resize_mode})
    save_clip(
        data / "clip", build_model(config, "tiny"), "tiny", config, preprocessing=preprocessing, origin={}
    )
    identity = trunk_identity(clip_identity(load_description(data / "clip")), 1)
    row_format = RowFormat("tokens", (5, 32), "float16")
    with RowWriter(data / "features" / "test.h5", row_format, [1, 2, 3], identity) as writer:
        writer.write([1, 2, 3], np.random.default_rng(0).normal(size=(3, 5, 32)))


def run(folder: Path, params: EvaluateParams = OFF, tokenizer: Segmenter = "ptb") -> dict[str, dict]:
    params_file = folder / "params.yaml"
    params_file.write_text("lr: 1e-3\n")
    evaluate(
        folder / "data",
        params_file=params_file,
        metrics=folder / "metrics",
        by_image=folder / "data" / "scores",
        sheet=folder / "plots" / "sheet.png",
        params=params,
        text=TextParams(tokenizer=tokenizer),
    )
    return {phase: json.loads((folder / "metrics" / f"{phase}.json").read_text()) for phase in ("xe", "scst")}


def test_metrics_of_the_test_split(tmp_path: Path) -> None:
    make_data(tmp_path / "data")
    scores = run(tmp_path)["scst"]
    assert scores["images"] == 3
    assert scores["CHAIRi"] == scores["CHAIRs"] == pytest.approx(1 / 3)
    assert scores["bad_endings"] == pytest.approx(1 / 3)
    # The upper patches hold objects: two of dog, cat and dog each; one label is wrong.
    assert scores["label_accuracy"] == pytest.approx(5 / 6)
    assert (scores["label_chance"], scores["label_majority"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert scores["CIDEr"] > 0
    assert [row["metric"] for row in scores["omitted"]] == ["METEOR", "SPICE", "unseen.CIDEr"]
    assert (tmp_path / "plots" / "sheet.png").stat().st_size > 1000


def test_an_ensemble_is_a_section_of_scst(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_data(data)
    alone = run(tmp_path)
    assert "ensemble" not in alone["scst"]
    spoken = {1: "a dog runs", 2: "a cat sleeps", 3: "two dogs sit"}
    rows = [{"image_id": number, "caption": caption} for number, caption in spoken.items()]
    save_json(data / "captions" / "ensemble.json", rows)
    save_json(data / "captions" / "members.json", {"seed43": "0123"})
    scores = run(tmp_path)
    together = scores["scst"].pop("ensemble")
    assert scores == alone
    assert together["CHAIRi"] == 0 and together["CIDEr"] > alone["scst"]["CIDEr"]
    facts = {fact["what"]: fact["value"] for fact in together["provenance"]}
    assert facts["sha256 of member seed43"] == "0123"
    assert facts["sha256 of model"] == sha256_file(data / "models" / "scst" / "model.safetensors")
    by_image = ImageScores.of_json(load_json(data / "scores" / "ensemble.json"), "ensemble.json")
    assert by_image.captions == list(spoken.values())
    assert not (tmp_path / "metrics" / "ensemble.json").exists()


def test_scores_by_image_make_up_those_of_all(tmp_path: Path) -> None:
    make_data(tmp_path / "data")
    scores = run(tmp_path)["xe"]
    by_image = ImageScores.of_json(load_json(tmp_path / "data" / "scores" / "xe.json"), "xe.json")
    assert dict(zip(by_image.image_ids, by_image.captions, strict=True)) == SPOKEN
    again = {name: statistic.value for name, statistic in by_image.statistics().items()}
    assert again.keys() >= {"CIDEr", "Bleu_4", "CLIPScore", "RefCLIPScore", "CHAIRi", "CHAIRs", "bad_endings"}
    assert again == {name: pytest.approx(scores[name], abs=1e-9) for name in again}
    for name in ("CIDEr", "Bleu_4"):
        ends = scores["interval_95"][name]
        assert 0 <= ends["low"] <= scores[name] <= ends["high"]


def test_domains_are_scored_apart(tmp_path: Path) -> None:
    make_data(tmp_path / "data")
    scores = run(tmp_path)["xe"]
    assert scores["seen"]["CHAIRi"] == pytest.approx(1 / 2)
    assert scores["unseen"]["CHAIRi"] == 0
    assert (scores["seen"]["images"], scores["unseen"]["images"]) == (2, 1)
    assert {"CIDEr", "Bleu_4"} <= scores["seen"].keys()
    assert "Bleu_4" in scores["unseen"] and "CIDEr" not in scores["unseen"]
    reasons = {row["metric"]: row["reason"] for row in scores["omitted"]}
    assert "one image" in reasons["unseen.CIDEr"] and "seen.CIDEr" not in reasons


def test_numbers_are_scalars_and_the_rest_lists(tmp_path: Path) -> None:
    """DVC shows every scalar of a metrics file, and no list."""
    make_data(tmp_path / "data")
    scores = run(tmp_path)["xe"]
    lists = {name for name, value in scores.items() if isinstance(value, list)}
    assert lists == {"omitted", "provenance"}
    for value in scores.values():
        assert isinstance(value, int | float | list | dict)


def test_provenance_names_every_input(tmp_path: Path) -> None:
    make_data(tmp_path / "data")
    facts = {
        phase: {row["what"]: row["value"] for row in scores["provenance"]}
        for phase, scores in run(tmp_path).items()
    }
    model = tmp_path / "data" / "models" / "xe" / "model.safetensors"
    assert facts["xe"]["sha256 of model"] == sha256_file(model) != facts["scst"]["sha256 of model"]
    assert sha256_file(tmp_path / "data" / "clip" / "clip.safetensors") in facts["xe"]["clip"]
    needed = {
        "git revision",
        "sha256 of dataset images",
        "sha256 of dataset captions",
        "sha256 of vocabulary",
    }
    needed |= {"sha256 of captions", "CIDEr signature"}
    needed |= {"python", "torch", "open_clip_torch", "pycocoevalcap", "numpy"}
    assert needed <= facts["xe"].keys()


def test_without_instances_the_reason_is_given(tmp_path: Path) -> None:
    make_data(tmp_path / "data", with_instances=False)
    scores = run(tmp_path)["xe"]
    reasons = {row["metric"]: row["reason"] for row in scores["omitted"]}
    for metric in ("CHAIRi", "CHAIRs", "label_accuracy"):
        assert metric not in scores and "no instances" in reasons[metric]


def test_cropped_images_have_no_label_accuracy(tmp_path: Path) -> None:
    make_data(tmp_path / "data", resize_mode="shortest")
    scores = run(tmp_path)["xe"]
    reasons = {row["metric"]: row["reason"] for row in scores["omitted"]}
    assert "shortest" in reasons["label_accuracy"] and "CHAIRi" in scores


def test_without_references_captions_have_no_scores_and_the_reason_is_given(tmp_path: Path) -> None:
    make_data(tmp_path / "data", with_references=False)
    scores = run(tmp_path)["scst"]
    assert scores["images"] == 3
    assert scores["bad_endings"] == pytest.approx(1 / 3)
    assert scores["label_accuracy"] == pytest.approx(5 / 6)
    assert not {"CIDEr", "Bleu_4", "CHAIRi", "seen", "unseen"} & scores.keys()
    reasons = {row["metric"]: row["reason"] for row in scores["omitted"]}
    assert scores["CLIPScore"] >= 0 and "RefCLIPScore" not in scores
    by_image = ImageScores.of_json(load_json(tmp_path / "data" / "scores" / "xe.json"), "xe.json")
    assert by_image.statistics().keys() == {"CLIPScore", "bad_endings"}
    assert "no references" in reasons["CIDEr"] and reasons.keys() >= {"Bleu_1", "METEOR", "SPICE", "CHAIRs"}
    assert (tmp_path / "plots" / "sheet.png").stat().st_size > 1000


def test_without_references_every_test_image_needs_a_caption(tmp_path: Path) -> None:
    make_data(tmp_path / "data", with_references=False)
    save_json(tmp_path / "data" / "captions" / "xe.json", [{"image_id": 1, "caption": "a dog"}])
    with pytest.raises(UserError, match="the captions of xe and the test images differ: 2; 3"):
        run(tmp_path)


def test_a_missing_caption_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    make_data(tmp_path / "data")
    save_json(tmp_path / "data" / "captions" / "xe.json", [{"image_id": 1, "caption": "a dog"}])
    with pytest.raises(UserError, match="the captions of xe and the test images differ: 2; 3"):
        run(tmp_path)
    assert not (tmp_path / "metrics").exists()


def test_revision_says_when_files_were_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_revision() == "unknown: not a git checkout"

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *who, *arguments], check=True, capture_output=True)

    git("init")
    Path("file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    clean = provenance.git_revision()
    assert len(clean) == 40
    Path("file").write_text("2")
    assert provenance.git_revision() == f"{clean}+changes"


def test_the_tokenizer_is_part_of_the_signature_and_of_where_scores_come_from(tmp_path: Path) -> None:
    make_data(tmp_path / "data")
    found = {name: run(tmp_path, tokenizer=name)["xe"] for name in ("ptb", "characters")}
    facts = [{fact["what"]: fact["value"] for fact in scores["provenance"]} for scores in found.values()]
    assert facts[0]["tokenizer"] == "this project's PTB tokenizer"
    assert facts[1]["tokenizer"].startswith("single characters")
    assert all(fact["CIDEr signature"].endswith("tokens of " + fact["tokenizer"]) for fact in facts)
    assert found["ptb"]["Bleu_4"] < found["characters"]["Bleu_4"] and "bad_endings" not in found["characters"]
    scores = load_json(tmp_path / "data" / "scores" / "xe.json")
    assert scores["signature"] == facts[1]["CIDEr signature"]
