"""The check says yes to a sound project, and otherwise lists everything that is wrong, a line each."""

import json
import shutil
from collections import Counter, namedtuple
from typing import Any

import pytest
import torch

from fsgr_model.checkup import needs, weights
from fsgr_model.checkup.blueprint import draw_blueprint
from fsgr_model.checkup.dataset import DatasetSize
from fsgr_model.checkup.findings import Findings
from fsgr_model.checkup.published import compare_with_published, published_splits
from fsgr_model.clip.model_building import build_model
from fsgr_model.clip.sources import read_config
from fsgr_model.clip.token_cache import CacheDtype
from fsgr_model.config.params import load_params
from tests.checkup.conftest import ROOT, TINY_CLIP, Project, fact
from tests.worlds import towers
from tests.worlds.small_dataset import draw_noise, karpathy_entry

Usage = namedtuple("Usage", "total used free")


def test_a_sound_project(project: Project) -> None:
    findings = project.check()
    assert findings.problems == []
    assert findings.verdict().startswith("yes: ")
    assert "train 4, val 1, test 1; 12 captions" in fact(findings, "images")
    assert "6 listed, 6 decoded, 0 missing or broken" in fact(findings, "pictures")
    assert "3 in " in fact(findings, "concepts")


def test_nothing_is_written(project: Project) -> None:
    project.check()
    before = {path: path.stat().st_mtime_ns for path in project.root.rglob("*") if path.name != "params.yaml"}
    project.check(all_images=True, timing=True)
    after = {path: path.stat().st_mtime_ns for path in project.root.rglob("*") if path.name != "params.yaml"}
    assert before == after


def test_all_problems_at_once_numbered_a_line_each(project: Project) -> None:
    (project.small.root / "images" / "12.png").unlink()
    (project.small.root / "images" / "31.png").write_text("<html>")
    project.change_file("captions_test.json", lambda file: file["annotations"][0].update(image_id=77))
    project.change_file("captions_val.json", lambda file: file["annotations"][0].update(caption=" ... "))
    project.values["codebook"]["concepts"] = "nowhere.txt"
    project.values["vocab"]["words"] = "no_words.json"
    project.values["clip"]["cut"] = 2
    project.values["dataset"]["instances"] = ["masks.json"]
    findings = project.check()
    expected = [
        "dataset.instances: ",
        "captions of unknown images: image 77",
        "captions without a word: annotation 210 of image 21",
        "2 of 6 pictures below ",
        "codebook.concepts: nowhere.txt does not exist",
        "no_words.json does not exist",
        "clip.cut 2 leaves no block",
    ]
    assert len(findings.problems) == len(expected), findings.problems
    for part, problem in zip(expected, findings.problems, strict=True):
        assert part in problem
    first, *numbered = findings.verdict().splitlines()
    assert first == "no: 7 things to fix"
    assert [line.partition(". ")[0] for line in numbered] == [str(number) for number in range(1, 8)]


def test_a_member_of_the_ensemble_that_is_not_there(project: Project) -> None:
    project.values["ensemble"] = ["seed43"]
    assert project.problem().startswith(
        f"ensemble: {project.root}/members has no network seed43; it has none. "
    )


def test_missing_root_leaves_the_rest_to_be_checked(project: Project) -> None:
    project.values["dataset"]["root"] = str(project.root / "elsewhere")
    project.values["codebook"]["concepts"] = "nowhere.txt"
    root, concepts = project.problems()
    assert "dataset.root: there is no folder" in root
    assert "codebook.concepts" in concepts


def test_missing_and_broken_lists_are_told_together(project: Project) -> None:
    (project.small.root / "captions_train.json").unlink()
    (project.small.root / "captions_val.json").write_text("{")
    (project.small.root / "captions_test.json").write_text("[1,")
    missing, val, test = project.problems()
    assert missing.startswith("dataset.captions.train: ") and "does not exist" in missing
    assert "captions_val.json is not valid JSON" in val
    assert "captions_test.json is not valid JSON" in test


def test_a_problem_that_is_found_twice_is_listed_once(project: Project) -> None:
    """The reader stops at the file of the training images; then all files are looked at."""
    (project.small.root / "captions_train.json").write_text("{")
    (project.small.root / "captions_test.json").write_text("{")
    train, test = project.problems()
    assert "captions_train.json is not" in train and "captions_test.json is not" in test


def test_wrong_parameters_are_a_problem(project: Project) -> None:
    project.values["lerning_rate"] = 1
    assert "lerning_rate: unknown parameter" in project.problem()


def test_missing_images_may_be_left_out(project: Project) -> None:
    (project.small.root / "images" / "12.png").unlink()
    assert "12.png: missing" in project.problem()
    project.values["dataset"]["on_bad_image"] = "skip"
    assert "12.png: missing" in fact(project.check(), "left out")


def test_only_all_images_finds_a_broken_one_outside_of_the_sample(project: Project) -> None:
    def many(file: Any) -> None:
        for number in range(1000, 1400):
            draw_noise(project.small.root / "images" / f"{number}.png", number)
            file["images"].append({"id": number, "file_name": f"{number}.png"})
            file["annotations"].append({"id": number, "image_id": number, "caption": "A dog."})

    project.change_file("captions_train.json", many)
    project.values["runtime"] = {"workers": 0}
    (project.small.root / "images" / "1101.png").write_text("<html>")
    findings = project.check()
    assert "406 listed, 200 decoded" in fact(findings, "pictures") and not findings.problems
    assert "1101.png: not an image" in project.problem(all_images=True)


def test_no_disk_space(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 1_000))
    assert "disk: a run writes" in project.problem()


def test_too_little_memory(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "device_memory", lambda device: 1_000)
    assert "lower xe.batch_size" in project.problem()


def test_unknown_tag_and_architecture(project: Project) -> None:
    project.values["clip"] |= {"model": "ViT-B-16", "pretrained": "opanai"}
    assert "'opanai' is no file, and no tag of ViT-B-16 (its tags: openai" in project.problem()
    project.values["clip"]["model"] = "ViT-B-17"
    assert "open_clip has no architecture 'ViT-B-17'" in project.problem()


@pytest.mark.parametrize("reachable", [True, False])
def test_weights_to_be_downloaded(project: Project, monkeypatch: pytest.MonkeyPatch, reachable: bool) -> None:
    project.values["clip"] |= {"model": "ViT-B-32", "pretrained": "openai"}
    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda repository, file: None)
    monkeypatch.setattr(weights, "answers", lambda place: reachable)
    findings = project.check()
    if reachable:
        assert "will be downloaded from https://huggingface.co/timm/" in fact(findings, "clip")
        assert not findings.problems
    else:
        assert "does not answer; connect to the internet" in findings.problems[0]


def test_downloaded_weights_are_found(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.values["clip"] |= {"model": "ViT-B-32", "pretrained": "openai"}
    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda repository, file: f"/cache/{file}")
    monkeypatch.setattr(weights, "answers", lambda place: pytest.fail("needs no network"))
    assert "are in /cache/open_clip_model.safetensors" in fact(project.check(), "clip")


def test_a_file_that_is_no_checkpoint(project: Project) -> None:
    broken = project.root / "broken.safetensors"
    broken.write_bytes(b"<html>")
    project.values["clip"] |= {"pretrained": str(broken), "preprocess_as": "ViT-B-16/openai"}
    assert "broken.safetensors" in project.problem()


def test_concepts_of_a_dataset_without_masks(project: Project) -> None:
    project.values["codebook"]["concepts"] = "dataset"
    assert "dataset.instances names no categories" in project.problem()


def test_more_images_to_train_on_than_there_are(project: Project) -> None:
    project.values["train_images"] = 5
    assert "train_images is 5, but there are only 4 training images" in project.problem()
    project.values["train_images"] = 4
    assert project.check().problems == []


def test_a_tool_that_is_told_of_runs_must_be_installed(project: Project, monkeypatch) -> None:
    monkeypatch.setattr("fsgr_model.runtime.run_reports.find_spec", lambda name: None)
    project.values["runtime"] = {"report_to": ["tensorboard"]}
    assert "runtime.report_to: tensorboard is not installed" in project.problem()


def test_published_counts(project: Project) -> None:
    entries = [karpathy_entry(each, split) for each, split in [(11, "train"), (21, "val"), (31, "test")]]
    (project.small.root / "dataset_coco.json").write_text(json.dumps({"images": entries}))
    project.of_format("karpathy", karpathy_file="dataset_coco.json", images=".")
    problems = project.problems()
    assert [f"{count:,} images in {split}, found 1;" in line for line, (split, count) in zip(
        problems, [("train", 113_287), ("val", 5_000), ("test", 5_000)], strict=True
    )] == [True] * 3  # fmt: skip
    (project.small.root / "dataset_coco.json").rename(project.small.root / "dataset_part.json")
    project.values["dataset"]["karpathy_file"] = "dataset_part.json"
    project.values["dataset"]["watch"] = "dataset_part.json"
    assert project.problems() == []


@pytest.mark.parametrize(
    ("preset", "counts"),
    [
        ("coco", (113_287, 5_000, 5_000)),
        ("coco_vitl", (113_287, 5_000, 5_000)),
        ("coco_pe", (113_287, 5_000, 5_000)),
        ("coco_siglip2", (113_287, 5_000, 5_000)),
        ("flickr30k", (29_000, 1_014, 1_000)),
        ("nocaps", (118_287, 5_000, 4_500)),
    ],
)
def test_presets_name_published_splits(preset: str, counts: tuple[int, ...]) -> None:
    params = load_params(ROOT / "presets" / f"{preset}.yaml").dataset
    published = published_splits(params)
    assert tuple(each.images for each in published.values()) == counts
    findings = Findings()
    compare_with_published(params, {split: each.images for split, each in published.items()}, findings)
    assert not findings.problems and "as many images as published" in findings.facts[0]


@pytest.mark.parametrize("preset", ["coco", "coco_pe", "coco_siglip2", "coco_vitl"])
def test_the_cache_of_a_preset_is_that_of_the_table(preset: str) -> None:
    """`check` plans with the tokens and the grid that docs/reference/towers.md has of its CLIP."""
    params = load_params(ROOT / "presets" / f"{preset}.yaml")
    name, config = read_config(params.clip.model)
    plan = draw_blueprint(config, name, params, 9, words=9, device=torch.device("meta"))
    table = (ROOT / "docs/reference/towers.md").read_text()
    (row,) = [line for line in table.splitlines() if line.startswith(f"| `{params.clip.model}` |")]
    tokens, width = plan.token_shape
    rows, columns = plan.captioner.tail.frozen.grid_size
    assert f"| {tokens} x {width} |" in row and f"| {rows} x {columns} |" in row


def test_the_cache_of_either_dtype_is_told(project: Project) -> None:
    """Of 6 images of 32 pixels in patches of 8: 17 tokens of width 16."""
    told = fact(project.check(), "cache")
    assert "float16 0.00 GB, int8 0.00 GB on disk" in told
    assert told.endswith("clip.cache_dtype is float16 (6 images x 17 tokens x 16)")
    project.values["clip"]["cache_dtype"] = "int8"
    assert "clip.cache_dtype is int8" in fact(project.check(), "cache")


@pytest.mark.parametrize(("cache_dtype", "token_bytes"), [("float16", 16 * 2), ("int8", 16 + 2)])
def test_disk_is_images_by_tokens_by_their_bytes(
    project: Project, cache_dtype: CacheDtype, token_bytes: int
) -> None:
    """Beside the tokens there are 16 labels per image."""
    params = load_params(project.params_file)
    plan = draw_blueprint(TINY_CLIP, "tiny", params, 3, words=9, device=torch.device("meta"))
    size = DatasetSize({"train": 4, "val": 1, "test": 1}, 2, 5, Counter(), 12, unpacked=77)
    clip = sum(weight.numel() for weight in build_model(TINY_CLIP, "tiny").parameters())
    captioner = sum(weight.numel() for weight in plan.captioner.trained_weights().values())
    assert needs.disk_bytes(size, plan, cache_dtype) == {
        "feature cache": 6 * 17 * token_bytes,
        "label maps": 6 * 16 * 2,
        "weights": 4 * (clip + 2 * captioner),
        "unpacked pictures": 77,
    }


@pytest.mark.parametrize(
    ("kind", "cut", "tokens", "patches"),
    [
        ("timm, attention pool (SigLIP)", 1, (16, 32), 16),
        ("timm, ConvNeXt", 1, (256, 8), 4),
        ("timm, ConvNeXt", 3, (16, 16), 4),
    ],
)
def test_the_cache_of_towers_without_a_class_token(
    project: Project, kind: str, cut: int, tokens: tuple[int, int], patches: int
) -> None:
    """All T positions of the map at the cut count, in its width there; labels are of the last map."""
    project.values["clip"]["cut"] = cut
    project.values["model"] |= {"align": "value", "tail": None}
    params = load_params(project.params_file)
    plan = draw_blueprint(towers.ALL[kind], kind, params, 3, words=9, device=torch.device("meta"))
    size = DatasetSize({"train": 4, "val": 1, "test": 1}, 2, 5, Counter(), 12)
    T, W = tokens
    assert needs.cache_bytes(size, plan) == {"float16": 6 * T * W * 2, "int8": 6 * T * (W + 2)}
    assert needs.disk_bytes(size, plan, "int8")["label maps"] == 6 * patches * 2


def test_hours_of_every_long_stage(project: Project) -> None:
    project.values["model"]["tail"] = {"adapters": True, "prompts": 3, "prompt_start": "random"}
    project.values["xe"]["contrast"] = {"weight": 0.25, "anchors": 4096}
    threads = torch.get_num_threads()
    findings = project.check(timing=True)
    assert findings.problems == [] and torch.get_num_threads() == threads
    for stage in ("dataset", "features", "labels", "train_xe", "train_scst"):
        assert stage in fact(findings, "hours")
    assert "XE " in fact(findings, "measured")
