"""The check reads every format, and looks for all the files that it needs."""

import json
import shutil
import tarfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fsgr_model.config.dataset_params import KIND_OF_FORMAT
from tests.checkup.conftest import ROOT, Project, fact
from tests.worlds.small_dataset import FILES, draw_noise, karpathy_entry


def as_table(project: Project) -> dict[str, Any]:
    rows = [f"{each}.png,A red dog.,{split}" for each, split in
            [(11, "train"), (12, "train"), (21, "val"), (31, "test")]]  # fmt: skip
    (project.small.root / "captions.csv").write_text("\n".join(["image,caption,split", *rows]))
    return {"table": {"file": "captions.csv"}, "seed": 42}


def as_shards(project: Project) -> dict[str, Any]:
    for split, image_id in [("train", 11), ("val", 21), ("test", 31)]:
        with tarfile.open(project.small.root / f"{split}.tar", "w") as archive:
            text = project.small.root / f"{image_id}.txt"
            text.write_text("A red dog.")
            archive.add(text, f"{image_id}.txt")
            archive.add(project.small.root / "images" / f"{image_id}.png", f"{image_id}.png")
    return {"shards": {split: f"{split}*.tar" for split in ("train", "val", "test")}}


def as_m2(project: Project) -> dict[str, Any]:
    ids = {"train": [110, 111], "restval": [120, 121], "dev": [210, 211], "test": [310, 311]}
    for name, of_file in ids.items():
        np.save(project.small.root / f"coco_{name}_ids.npy", np.array(of_file))
    sources = [
        {"captions": f"captions_{split}.json", "images": "images"} for split in ("train", "val", "test")
    ]
    return {"m2": {"ids": ".", "sources": sources, "partial": True}}


def as_karpathy(project: Project) -> dict[str, Any]:
    entries = [karpathy_entry(each, split) for each, split in [(11, "train"), (21, "val"), (31, "test")]]
    (project.small.root / "dataset_part.json").write_text(json.dumps({"images": entries}))
    return {"karpathy_file": "dataset_part.json", "images": "."}


def as_demo(project: Project) -> dict[str, Any]:
    shutil.copy(ROOT / "data" / "demo" / "world.yaml", project.small.root)
    return {"demo": {"train_images": 8, "val_images": 2, "test_images": 2}, "watch": "world.yaml", "seed": 42}


def as_blip(project: Project) -> dict[str, Any]:
    return write_lists(project, lambda each: [{"image": f"{each}.png", "caption": "A red dog."}])


def as_textcaps(project: Project) -> dict[str, Any]:
    for each in (11, 21, 31):
        draw_noise(project.small.root / "images" / f"{each}.jpg", each)
    return write_lists(project, lambda each: {"data": [{"image_id": str(each), "caption_str": "A red dog."}]})


def as_narratives(project: Project) -> dict[str, Any]:
    """The files of a pattern are not looked for by its name."""
    row = {"dataset_id": "ADE20k_train", "caption": "A red dog."}
    changes = write_lists(project, lambda each: row | {"image_id": f"{each}.png"})
    return {"captions": changes["captions"] | {"train": "captions_train*.json"}}


def as_ai_challenger(project: Project) -> dict[str, Any]:
    return write_lists(project, lambda each: [{"image_id": f"{each}.png", "caption": ["A red dog."]}])


def write_lists(project: Project, content: Callable[[int], Any]) -> dict[str, Any]:
    for split, each in [("train", 11), ("val", 21), ("test", 31)]:
        (project.small.root / FILES[split]).write_text(json.dumps(content(each)))
    return {"captions": dict(FILES)}


FORMATS: dict[str, Any] = {
    "blip": as_blip,
    "textcaps": as_textcaps,
    "narratives": as_narratives,
    "ai_challenger": as_ai_challenger,
    "coco": lambda project: {},
    "nocaps": lambda project: {},
    "karpathy": as_karpathy,
    "m2": as_m2,
    "folder": as_table,
    "webdataset": as_shards,
    "demo": as_demo,
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_read(project: Project, form: str) -> None:
    project.of_format(form, **FORMATS[form](project))
    findings = project.check()
    assert findings.problems == []
    assert "train " in fact(findings, "images") and "images x 17 tokens" in fact(findings, "cache")


@pytest.mark.parametrize(("tokenizer", "words"), [("characters", "about 4"), ("ptb", "no word")])
def test_words_are_counted_as_the_tokenizer_divides(project: Project, tokenizer: str, words: str) -> None:
    """By spaces, every Chinese caption would be a word of its own, and none frequent enough."""
    said = {11: ["一只红狗", "一只红狗在跑"], 21: ["一只猫"], 31: ["一只猫"]}
    changes = write_lists(project, lambda each: [{"image_id": f"{each}.png", "caption": said[each]}])
    project.of_format("ai_challenger", **changes)
    project.values["vocab"]["min_count"] = 2
    project.values["text"]["tokenizer"] = tokenizer
    findings = project.check()
    told = [*findings.problems, *findings.facts]
    assert any(words in text for text in told)


def test_no_format_is_forgotten() -> None:
    assert FORMATS.keys() == KIND_OF_FORMAT.keys()


def test_lists_of_names_are_among_the_files(project: Project) -> None:
    """Flickr8k: a table and three lists; one that is missing is named with its parameter."""
    rows = [f"{each}.png#0\tA red dog ." for each in (11, 12, 21, 31)]
    (project.small.root / "Flickr8k.token.txt").write_text("\n".join(rows))
    lists = {"train": "train.txt", "val": "val.txt", "test": "test.txt"}
    for split, names in {"train": "11.png\n12.png\n", "test": "31.png\n"}.items():
        (project.small.root / lists[split]).write_text(names)
    table = {"file": "Flickr8k.token.txt", "splits": lists}
    project.of_format("folder", table=table, seed=42)
    assert project.problem().startswith("dataset.table.splits.val: ")
    (project.small.root / "val.txt").write_text("21.png\n")
    assert "train 2, val 1, test 1; 4 captions" in fact(project.check(), "images")


def test_an_imported_word_list(project: Project) -> None:
    path = project.root / "cocotalk.json"
    path.write_text(json.dumps({"ix_to_word": {"1": "a", "2": "dog", "3": "UNK"}}))
    project.values["vocab"]["words"] = str(path)
    assert "6 in " in fact(project.check(), "words")


def test_a_broken_picture_within_a_shard(project: Project) -> None:
    (project.small.root / "images" / "21.png").write_text("<html>")
    project.of_format("webdataset", **as_shards(project))
    assert "val.tar: 21.png: not an image" in project.problem()
