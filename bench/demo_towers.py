"""A small CLIP of each kind of vision tower, trained on the demo world: do its patches know what they show?

    python -m bench.demo_towers
    python -m bench.demo_towers --towers vit siglip --seeds 42 43 44
    python -m bench.demo_towers --towers vit siglip --captions
    python -m bench.demo_towers --towers vit siglip --tuned

Reads data/dataset, which `dvc repro dataset` makes. Every run is made of the pipeline's own stages in
a folder of its own under build/, and one that is in bench/results/demo_towers.json already is not run again.
A seed is that of the CLIP; the world stays the same. With --captions a captioner is trained on top; with
--tuned another one, which trains adapters and prompts inside the blocks of the CLIP's tail.
"""

import argparse
import re
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bench.rows import device_name, put_into_page
from bench.scratch import copy_project, scratch_environment, write_params
from fsgr_model.clip.codebook import load_codebook
from fsgr_model.clip.image_reading import read_batches
from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.maskclip import label_patches
from fsgr_model.clip.towers import make_tail, make_trunk
from fsgr_model.clip.vit import Align
from fsgr_model.config.params import LabelsParams, Params, load_params
from fsgr_model.datasets.normal_form import read_captions, read_instances, read_lists
from fsgr_model.runtime.artifacts import load_json, save_json
from fsgr_model.runtime.errors import UserError, run_command
from fsgr_model.scoring.coco_metrics import score_captions
from fsgr_model.scoring.split_scores import score_labels
from pipeline.captions import caption_split, read_test_split

RESULTS, PAGE = Path("bench/results/demo_towers.json"), Path("docs/experiments/demo_towers.md")
DATASET, RUNS = Path("data/dataset"), Path("build/demo_towers")
ATTENTIONS: tuple[Align, ...] = ("plain", "qk_kk", "csa", "value")
TUNED = {"adapters": True, "prompts": 1, "prompt_start": "patches"}
BATCH = 64
FOUND = re.compile(r"finds the first caption of ([\d.]+)%")


class Tower(NamedTuple):
    """What it is, where it is cut, and how its last block makes the maps that a captioner is trained on."""

    what: str
    cut: int
    attention: Align
    staged: bool = False


TOWERS = {
    "vit": Tower("open_clip's ViT, mean of the patches: the demo's own", 1, "qk_kk"),
    "class_token": Tower("open_clip's ViT, class token", 1, "qk_kk"),
    "timm_vit": Tower("timm's ViT, mean of the patches", 1, "qk_kk"),
    "siglip": Tower("timm's ViT, attention pool, sigmoid loss (SigLIP)", 1, "qk_kk"),
    "eva02": Tower("EVA-02, class token, rotary positions", 1, "qk_kk"),
    "pe_core": Tower("PE-Core, attention pool, rotary positions", 1, "qk_kk"),
    "coca": Tower("open_clip's ViT, CoCa's attention pool", 1, "qk_kk"),
    "convnext": Tower("ConvNeXt", 4, "value", staged=True),
    "fastvit": Tower("FastViT (MobileCLIP)", 4, "value", staged=True),
    "resnet": Tower("CLIP's ResNet", 0, "value"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--towers", nargs="+", choices=TOWERS, default=list(TOWERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--epochs", type=int, default=3, help="of CLIP's training (default: %(default)s)")
    parser.add_argument("--captions", action="store_true", help="train a captioner on each, one epoch")
    parser.add_argument("--tuned", action="store_true", help="train adapters and prompts with it, one epoch")
    given = parser.parse_args()
    for name in given.towers:
        for seed in given.seeds:
            cell, params = f"{name}-{given.epochs}-{seed}", params_of(name, seed=seed, epochs=given.epochs)
            if cell not in results():
                add(cell, train(name, params, RUNS / cell))
            if given.captions and "CIDEr" not in results()[cell]:
                add(cell, caption(params, RUNS / cell))
            if given.tuned and has_blocks(name) and "CIDEr_tuned" not in results()[cell]:
                cider = caption(params | {"model.tail": TUNED}, RUNS / cell)["CIDEr"]
                add(cell, {"CIDEr_tuned": cider})
            print(cell, results()[cell], flush=True)
    put_into_page(PAGE, "demo_towers", table(results()))


def results() -> dict[str, Any]:
    """What is known by now; others may run beside this."""
    return load_json(RESULTS) if RESULTS.exists() else {}


def add(cell: str, found: dict[str, Any]) -> None:
    """Put it beside what is known of the cell."""
    known = results()
    save_json(RESULTS, known | {cell: known.get(cell, {}) | found})


def params_of(name: str, *, seed: int, epochs: int) -> dict[str, Any]:
    """What is changed in params.yaml."""
    tower = TOWERS[name]
    return {
        "clip.model": f"fsgr_model/clip/demo_{name}.json",
        "clip.cut": tower.cut,
        "clip.training.epochs": epochs,
        "clip.training.seed": seed,
        "labels.attention": tower.attention,
        "model.align": tower.attention,
        "xe.epochs": 1,
        "xe.schedule.decay": [],
    }


def train(name: str, params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The stages up to the codebook, and what the CLIP's patches are worth."""
    before = processor_seconds()
    if folder.exists():
        shutil.rmtree(folder)
    said = run_stages(folder, params, "clip", "codebook")
    seconds = processor_seconds() - before
    found = FOUND.search(said)
    assert found, said
    labels = measure_labels(folder / "data", TOWERS[name], load_params(folder / "params.yaml"))
    trained_on = {"epochs": params["clip.training.epochs"], "device": device_name(torch.device("cpu"))}
    return {**labels, "retrieval": float(found[1]) / 100, "clip_cpu_seconds": seconds, **trained_on}


def caption(changes: dict[str, Any], folder: Path) -> dict[str, float]:
    """CIDEr of the test split after one epoch of cross-entropy on the tower that `train` left there."""
    before = processor_seconds()
    run_stages(folder, changes, "features", "labels", "vocab", "train_xe")
    data, params = folder / "data", load_params(folder / "params.yaml")
    parts, features = read_test_split(data, params.model)
    captions = caption_split(
        parts,
        features,
        data / "models" / "xe",
        params.model,
        decode=params.decode,
        precision=params.precision,
        batch_size=params.runtime.caption_batch,
    )
    of_image = read_captions(data / "dataset")
    references = {i: [caption.text for caption in of_image[i]] for i in features.image_ids}
    results = {int(row["image_id"]): str(row["caption"]) for row in captions}
    report = score_captions(references, results, meteor="off")
    return {"CIDEr": report.metrics["CIDEr"], "captioner_cpu_seconds": processor_seconds() - before}


def run_stages(folder: Path, changes: dict[str, Any], *stages: str) -> str:
    """Run them in a copy of the project with these parameters; what they print."""
    copy_project(folder)
    write_params(folder / "params.yaml", changes)
    dataset = folder / "data" / "dataset"
    if not dataset.exists():
        dataset.symlink_to(DATASET.resolve())
    said = ""
    for stage in stages:
        command = [sys.executable, "-m", f"pipeline.{stage}"]
        ran = subprocess.run(
            command, cwd=folder, env=scratch_environment(), capture_output=True, encoding="utf-8"
        )
        if ran.returncode:
            raise UserError(f"{folder}: stage {stage} failed: {ran.stdout}{ran.stderr}")
        said += ran.stdout
    return said


@torch.inference_mode()
def measure_labels(data: Path, tower: Tower, params: Params) -> dict[str, Any]:
    """Label accuracy of the test split with each form of the last block that the tower has."""
    clip = load_clip(data / "clip", torch.device("cpu"))
    codebook = load_codebook(data / "codebook")
    instances = read_instances(data / "dataset")
    images = read_lists(data / "dataset").images_of("test")
    trunk = make_trunk(clip.model, tower.cut)
    batches = read_batches(images, clip.preprocess, batch=BATCH, workers=params.runtime.workers)
    tokens_NTW = torch.cat([trunk(image_BCHW) for _, image_BCHW in batches])
    found: dict[str, Any] = {"labels": {}}
    for attention in attentions_of(tower):
        tail = make_tail(clip.model, tower.cut, attention)
        label_NG = torch.cat(
            [
                label_patches(tail, tokens_BTW, codebook.embeddings_KE, LabelsParams(attention=attention))
                for tokens_BTW in tokens_NTW.split(BATCH)
            ]
        ).numpy()
        scores = score_labels(label_NG, images, instances, codebook.names, resize_mode="squash")
        found["labels"][attention] = scores["label_accuracy"]
        found |= {"grid": list(tail.grid_size), "chance": scores["label_chance"]}
        found |= {"majority": scores["label_majority"], "cached": list(trunk.token_shape)}
    return found


def attentions_of(tower: Tower) -> tuple[Align, ...]:
    """What the last block can be run as; towers in stages have no attention."""
    return ("value",) if tower.staged else ATTENTIONS


def has_blocks(name: str) -> bool:
    """Whether adapters and prompts have a place in the tower's tail."""
    return not TOWERS[name].staged and name != "resnet"


def processor_seconds() -> float:
    """Of this process and of all that it started and that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def table(known: dict[str, Any]) -> str:
    """Markdown: a row per tower and number of epochs, means over the seeds."""
    head = [
        "tower",
        "epochs",
        "seeds",
        "grid",
        *ATTENTIONS,
        "chance",
        "best constant",
        "retrieval",
        "CIDEr",
        "CIDEr, tuned",
        "CPU s",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, tower in TOWERS.items():
        of_tower = [run for cell, run in known.items() if cell.split("-")[0] == name]
        for epochs in sorted({run["epochs"] for run in of_tower}):
            runs = [run for run in of_tower if run["epochs"] == epochs]
            lines.append("| " + " | ".join([tower.what, str(epochs), *row_of(runs)]) + " |")
    return "\n".join(lines)


def row_of(runs: list[dict[str, Any]]) -> list[str]:
    """The cells after the tower and its epochs."""
    rows, columns = runs[0]["grid"]
    cells = [str(len(runs)), f"{rows} x {columns}"]
    cells += [percent(run["labels"][each] for run in runs if each in run["labels"]) for each in ATTENTIONS]
    cells += [percent(run[each] for run in runs) for each in ("chance", "majority", "retrieval")]
    for key in ("CIDEr", "CIDEr_tuned"):
        cider = [run[key] for run in runs if key in run]
        cells += [f"{statistics.mean(cider):.3f}" if cider else ""]
    return [*cells, f"{statistics.mean(run['clip_cpu_seconds'] for run in runs):.0f}"]


def percent(values: Iterable[float]) -> str:
    """Mean and, of several, the standard deviation (of the population)."""
    shares = [100 * value for value in values]
    if not shares:
        return ""
    spread = f" ± {statistics.pstdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{statistics.mean(shares):.1f}{spread}%"


if __name__ == "__main__":
    run_command(main)
