"""The recipes of docs/howto/, run as printed, on small made-up files.

A recipe's fenced blocks are read from its page: blocks without a language are commands, yaml blocks are lines
to change in params.yaml, the csv block is how a table of captions begins.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import save_file

from fsgr_model.clip.model_building import build_model
from tests.worlds.small_dataset import draw_noise, karpathy_entry

ROOT = Path(__file__).parents[2]
HOWTO = ROOT / "docs" / "howto"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A recipe is a page, or what is below a heading of it.
COCO = (HOWTO / "coco.md").read_text(encoding="utf-8")
PUBLISHED = {"coco.md#COCO on one GPU": "coco", "coco.md#Flickr30k": "flickr30k"}
OWN_CAPTIONS = "own_captions.md"
RUN = (OWN_CAPTIONS, "another_clip.md", "caption.md#Caption a picture or a folder")
# They need OpenAI's weights, a GPU and the published images.
NOT_RUN = ("dvc repro", "python -m fsgr_model export")
CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "layers": 8, "width": 16, "head_width": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, empty for commands, and its text."""

    language: str
    text: str


def recipe(title: str) -> list[Block]:
    """The blocks of a page, or those below one of its headings: `page.md#heading`."""
    page, _, heading = title.partition("#")
    text = (HOWTO / page).read_text(encoding="utf-8")
    if heading:
        text = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [Block(*found.groups()) for found in FENCED.finditer(text)]


def commands(title: str) -> list[str]:
    return [line for block in recipe(title) if not block.language for line in block.text.splitlines()]


def run(command: str, project: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {"PATH": path, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(project)}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=project,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )


def change_params(project: Path, text: str) -> None:
    """What the page asks the reader to do with an editor."""
    path = project / "params.yaml"
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    for section, lines in yaml.safe_load(text).items():
        # A section `dataset` has what its format needs and no more, so that the page gives it whole.
        values[section] = lines if "format" in lines else values[section] | lines
    path.write_text(yaml.safe_dump(values))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project, without what its own runs made."""
    copy = tmp_path_factory.mktemp("recipes") / "project"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and name != "dvc.lock":
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    subprocess.run(["git", "init", "-q", "."], cwd=copy, check=True)
    yield copy
    shutil.rmtree(copy)


def test_every_recipe_has_commands() -> None:
    assert all(commands(title) for title in (*PUBLISHED, *RUN))


@pytest.mark.parametrize("title", PUBLISHED)
def test_what_is_not_run_is_only_what_the_page_says(title: str) -> None:
    left_out = [command for command in commands(title) if command.startswith(NOT_RUN)]
    assert [command.partition(" --out")[0] for command in left_out] == list(NOT_RUN)
    told = COCO.partition("## What is tested of this page")[2]
    assert all(f"`{command}`" in told for command in NOT_RUN)


def write_karpathy(project: Path, name: str) -> None:
    """A made-up part of a published split: its file, six pictures, and a list of tags."""
    root = project / "data" / name
    folder = "val2014" if name == "coco" else "flickr30k-images"
    (root / folder).mkdir(parents=True)
    entries = []
    for image_id, split in zip(range(11, 17), ["train"] * 4 + ["val", "test"], strict=True):
        draw_noise(root / folder / f"{image_id}.png", image_id)
        captions = [{"raw": "A red dog.", "sentid": 10 * image_id + number} for number in range(5)]
        place = folder if name == "coco" else ""
        entries.append(karpathy_entry(image_id, split, filepath=place, sentences=captions))
    (root / f"dataset_{name}.json").write_text(json.dumps({"images": entries}))
    (root / "ram_tag_list.txt").write_text("dog\ncat\n")


@pytest.mark.slow
@pytest.mark.parametrize(("title", "name"), PUBLISHED.items())
def test_recipes_for_published_data_up_to_training(project: Path, title: str, name: str) -> None:
    """The check finds exactly what made-up files lack: most of the images, masks, and weights of CLIP."""
    write_karpathy(project, name)
    copied, checked = (
        run(command, project) for command in commands(title) if not command.startswith(NOT_RUN)
    )
    assert copied.returncode == 0, copied.stderr
    assert (project / "params.yaml").read_text() == (ROOT / "presets" / f"{name}.yaml").read_text()
    assert checked.returncode == 1, checked.stderr
    problems = [line for line in checked.stdout.splitlines() if re.match(r"\d+\. ", line)]
    assert sum("as published has" in line for line in problems) == 3
    rest = [line for line in problems if "as published has" not in line and "clip.pretrained: " not in line]
    assert [("dataset.instances: " in line) for line in rest] == ([True] if name == "coco" else [])
    assert "6 listed, 6 decoded, 0 missing" in checked.stdout


# Each picture has captions of its own: no epoch can be chosen where all pictures have the same.
ANIMALS = ("dog", "cat", "cow", "horse", "goat")
PLACES = ("beach", "road", "wall", "river")


def write_mine(project: Path) -> None:
    """Twenty pictures and their table of captions, which begins as the page shows."""
    (header,) = [block.text.splitlines()[0] for block in recipe(OWN_CAPTIONS) if block.language == "csv"]
    root = project / "data" / "mine"
    (root / "photos").mkdir(parents=True)
    with (root / "captions.csv").open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(header.split(","))
        for number in range(20):
            draw_noise(root / "photos" / f"{number}.png", number)
            animal, place = ANIMALS[number % len(ANIMALS)], PLACES[number // len(ANIMALS)]
            for colour in ("red", "blue"):
                writer.writerow([f"{number}.png", f"A {colour} {animal} runs along the {place}."])


def write_clip_folder(project: Path) -> None:
    folder = project / "data" / "my_clip"
    folder.mkdir()
    described = {"model_cfg": CLIP, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    save_file(build_model(CLIP, "tiny").state_dict(), folder / "open_clip_model.safetensors")


def write_photographs(project: Path) -> None:
    (project / "holiday").mkdir()
    for number, name in enumerate(("photo.jpg", "holiday/one.jpg", "holiday/two.jpg")):
        draw_noise(project / name, number)


@pytest.mark.slow
def test_recipes_that_need_no_download_run_as_printed(project: Path) -> None:
    """One after the other, as somebody with own pictures would."""
    write_mine(project)
    write_clip_folder(project)
    write_photographs(project)
    for title in RUN:
        for block in recipe(title):
            if block.language == "yaml":
                change_params(project, block.text)
            elif not block.language:
                for command in block.text.splitlines():
                    done = run(command, project)
                    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert json.loads((project / "data" / "clip" / "clip.json").read_text())["model"] == "my_clip"
    captions = [json.loads(line) for line in (project / "captions.jsonl").read_text().splitlines()]
    assert [Path(line["path"]).name for line in captions] == ["one.jpg", "two.jpg"]
    assert len(list((project / "sheets").iterdir())) == 1
    assert (project / "model" / "README.md").is_file()
