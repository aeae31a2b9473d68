"""What self-critical training makes of captions, reward by reward, on the demo world.

    python -m bench.rewards
    python -m bench.rewards --settings cider_d chair-4 --seeds 42 43

It starts from the XE weights of a finished demo project (data/, params.yaml), trains as `scst` there says but
for the reward, captions the test split by beam search and scores it. A seed is that of the samples and of the
order of images; world, CLIP and XE weights stay the same. The network after the last epoch is scored, not the
one that validates best: that would be the XE network where a reward lowers CIDEr-D. A run that is in the
results already is not run again.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from bench.rows import device_name, put_into_page
from fsgr_model.config.params import EvaluateParams, Params, load_params
from fsgr_model.config.training_params import RewardParams
from fsgr_model.datasets.normal_form import read_instances, read_lists
from fsgr_model.runtime.artifacts import load_json, save_json
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import run_command
from fsgr_model.scoring.caption_faults import Repetition
from fsgr_model.scoring.clip_score import make_clip_scorer
from fsgr_model.scoring.split_scores import score_phases
from fsgr_model.text.ptb_tokenizer import ptb_tokenize
from fsgr_model.text.vocabulary import Vocabulary
from fsgr_model.training.run import Run
from pipeline.captions import caption_split, read_test_split
from pipeline.train_scst import train_scst

DATA, RUNS = Path("data"), Path("build/rewards")
RESULTS, PAGE = Path("bench/results/rewards.json"), Path("docs/experiments/rewards.md")
START, ALONE = "xe", "cider_d"
# The parameters of `scst` that a setting changes.
SETTINGS: dict[str, dict[str, Any]] = {
    ALONE: {},
    "chair-0.5": {"reward": RewardParams(chair=0.5)},
    "chair-0.75": {"reward": RewardParams(chair=0.75)},
    "chair-1": {"reward": RewardParams(chair=1)},
    "chair-4": {"reward": RewardParams(chair=4)},
    "chair-10": {"reward": RewardParams(chair=10)},
    "clip_score": {"reward": RewardParams(cider_d=0, clip_score=1)},
    "clip_score-mended": {"reward": RewardParams(cider_d=0, clip_score=1, repetition=1, bad_endings=1)},
    "cider_d-clip_score": {"reward": RewardParams(clip_score=1)},
    "cider_d-ref_clip_score": {"reward": RewardParams(ref_clip_score=1)},
    "bleu4": {"reward": RewardParams(cider_d=0, bleu4=1)},
    "clip_score-chair": {"reward": RewardParams(clip_score=1, chair=4)},
    "ref_clip_score-chair": {"reward": RewardParams(ref_clip_score=1, chair=1)},
    "greedy": {"baseline": "greedy"},
    "mean": {"baseline": "mean"},
}
COLUMNS = {
    "CIDEr": ".3f",
    "seen.CIDEr": ".3f",
    "unseen.CIDEr": ".3f",
    "Bleu_4": ".3f",
    "CLIPScore": ".3f",
    "RefCLIPScore": ".3f",
    "CHAIRi": ".4f",
    "seen.CHAIRi": ".4f",
    "unseen.CHAIRi": ".4f",
    "words": ".2f",
    "repetition": ".4f",
    "bad_endings": ".4f",
    "distinct": ".0f",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="Markdown (default: %(default)s)")
    given = parser.parse_args()
    params = load_params()
    if START not in results(given.out):
        add(given.out, START, scores(params, DATA / "models" / "xe"))
    for seed in given.seeds:
        for name in given.settings:
            cell = f"{name}-{seed}"
            if cell not in results(given.out):
                add(given.out, cell, scores(params, train(params, name, seed)))
    put_into_page(given.page, "rewards", table(results(given.out)))


def results(path: Path) -> dict[str, Any]:
    """What is known by now; others may run beside this."""
    return load_json(path) if path.exists() else {}


def add(path: Path, cell: str, found: dict[str, Any]) -> None:
    """Put it beside what is known."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_json(path, results(path) | {cell: found})
    print(cell, found, flush=True)


def train(params: Params, name: str, seed: int) -> Path:
    """Train one setting; returns the folder of its weights."""
    folder = RUNS / f"{name}-{seed}"
    run = Run(
        stage=f"train_scst_{name}_{seed}",
        data=DATA,
        out=folder / "model",
        curve=folder / "curve.tsv",
        seed=seed,
        save_minutes=params.runtime.save_minutes,
        optimiser=params.optimiser,
        cache=params.runtime.cache,
        precision=params.precision,
        train_images=params.train_images,
    )
    with patch("fsgr_model.training.run.make_validation", Latest):
        train_scst(run, DATA / "models" / "xe", params.model, params.scst.model_copy(update=SETTINGS[name]))
    return run.out


class Latest:
    """In place of the validation: every epoch counts as better than those before."""

    def __init__(self, *images: Any, **settings: Any) -> None:
        self.epochs = 0
        self.samples: list[tuple[int, str]] = []

    def score(self, model: nn.Module, device: torch.device) -> float:
        """How often it was asked."""
        self.epochs += 1
        return self.epochs


def scores(params: Params, weights: Path) -> dict[str, Any]:
    """Scores of the test split's captions, on seen and unseen combinations too, and their faults."""
    parts, features = read_test_split(DATA, params.model)
    rows = caption_split(
        parts,
        features,
        weights,
        params.model,
        decode=params.decode,
        precision=params.precision,
        batch_size=params.runtime.caption_batch,
    )
    captions = {int(row["image_id"]): str(row["caption"]) for row in rows}
    lists = read_lists(DATA / "dataset")
    references = {number: [caption.text for caption in lists.captions[number]] for number in captions}
    report, _ = score_phases(
        references,
        {"test": captions},
        read_instances(DATA / "dataset"),
        {image.image_id: image.domain for image in lists.images_of("test")},
        params=EvaluateParams(java=[], sheet_images=1),
        text=params.text,
        meteor="off",
    )["test"]
    by_clip = make_clip_scorer(parts.clip, features, references).score(captions)
    found = report | {name: float(score_N.mean()) for name, score_N in by_clip.items()}
    found |= faults(list(captions.values()), parts.vocabulary)
    for part in ("seen", "unseen"):
        found |= {f"{part}.{name}": value for name, value in found.get(part, {}).items()}
    examples = dict(list(captions.items())[:: max(len(captions) // 8, 1)])
    device = device_name(pick_device())
    return {name: found[name] for name in COLUMNS if name in found} | {"examples": examples, "device": device}


def faults(captions: Sequence[str], vocabulary: Vocabulary) -> dict[str, float]:
    """Mean length, the share of repeated n-grams, and how many captions differ."""
    rows = [vocabulary.encode(ptb_tokenize(caption), 100)[1:] for caption in captions]
    longest = max(map(len, rows))
    caption_NL = np.array([row + [1] * (longest - len(row)) for row in rows])
    return {
        "words": statistics.mean(len(row) - 1 for row in rows),
        "repetition": float(Repetition(len(vocabulary)).score(caption_NL).mean()),
        "distinct": len(set(captions)),
    }


def table(known: dict[str, Any]) -> str:
    """Markdown: a row per setting, means over its seeds with the standard deviation of several."""
    head = ["rewarded", "seeds", *COLUMNS, "gain"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in (START, *SETTINGS):
        cells = {cell: run for cell, run in known.items() if cell in (name, f"{name}-{seed_of(cell)}")}
        if not cells:
            continue
        numbers = [shown([run[column] for run in cells.values()], form) for column, form in COLUMNS.items()]
        row = [described(name), str(len(cells)), *numbers, gain(known, cells)]
        lines.append("| " + " | ".join(row) + " |")
    devices = sorted({run["device"] for run in known.values()})
    return "\n".join([*lines, "", f"Trained on {', '.join(devices)}."])


def seed_of(cell: str) -> str:
    return cell.rpartition("-")[2]


def gain(known: dict[str, Any], cells: dict[str, Any]) -> str:
    """What the runs gained in CIDEr over XE, of what CIDEr-D alone gained with the same seeds."""
    alone = {cell: known[key] for cell in cells if (key := f"{ALONE}-{seed_of(cell)}") in known}
    if START not in known or len(alone) < len(cells):
        return ""
    gained, of = (
        statistics.mean(run["CIDEr"] for run in runs) - known[START]["CIDEr"]
        for runs in (cells.values(), alone.values())
    )
    return f"{gained / of:.1%}" if of else ""


def shown(values: Sequence[float], form: str) -> str:
    """The mean, and of several values their standard deviation."""
    mean = f"{statistics.mean(values):{form}}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):{form}}"


def described(name: str) -> str:
    """A setting as the sum that it is."""
    if name == START:
        return "(XE, before SCST)"
    setting = SETTINGS[name]
    weights = setting.get("reward", RewardParams()).model_dump()
    penalties = ("chair", "repetition", "bad_endings")
    terms = [
        f"{'- ' if part in penalties else '+ '}{weight:g} {part}"
        for part, weight in weights.items()
        if weight
    ]
    baseline = f"; baseline {setting['baseline']}" if "baseline" in setting else ""
    return " ".join(terms).removeprefix("+ ") + baseline


if __name__ == "__main__":
    run_command(main)
