"""What each part of the network is worth: parts x seeds, XE and SCST, scored on the demo's test split.

    python -m bench.ablation --seeds 42 43 44
    python -m bench.ablation --few         # few captioned pictures, and a CLIP that has seen far more

Every cell is a DVC experiment (`dvc exp show` lists ablation-all-42, ...); one that is already there is not
run again. Then the time of an XE step is measured, one network after the other. Writes ablation.json
and ablation_table.md in bench/results/, and docs/images/ablation.png; with --few the same as ablation_few.
"""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from bench.experiments import PHASES, Scores, everything, run_experiments, spread
from fsgr_model.config.params import Params
from fsgr_model.kernels.training import speed_up_training
from fsgr_model.network.assembly import build_captioner, parameter_counts
from fsgr_model.runtime.artifacts import load_yaml, parse_yaml, save_json, whole_file
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import run_command
from fsgr_model.training.inputs import captioned_images, read_inputs
from fsgr_model.training.optimiser import Optimiser
from fsgr_model.training.task import Step
from pipeline.train_xe import prepare_xe

RESULTS, IMAGES = Path("bench/results"), Path("docs/images")
CONTRAST = ("xe.contrast={weight: 0.0005, anchors: 4096}",)
VISUAL = (
    "model.tail={adapters: true, prompts: 1, prompt_start: patches}",
    "optimiser.visual_lr_factor=1.0",
    "scst.optimiser={name: muon, weight_decay: 0, grad_clip_norm: 1.0, visual_lr_factor: 0.3}",
)
PROTOTYPES = "model.memory={kind: prototypes, size: 2, window: %d, refresh: %d, neighbours: 16}"
MEMORY = (PROTOTYPES % (250, 125),)
ALIGNMENT = ("xe.alignment={weight: 0.02}",)
# Weights and sizes were chosen on seed 41, which is not among those that are reported.
# The baseline is the same network without concepts; then come the quantiser, each part added to it, and all.
ROWS: dict[str, tuple[str, ...]] = {
    "baseline": ("model.semantics=false",),
    "quantiser": (),
    "contrast": CONTRAST,
    "adapters-prompts": VISUAL,
    "memory": MEMORY,
    "alignment": ALIGNMENT,
    "all": (*CONTRAST, *VISUAL, *MEMORY, *ALIGNMENT),
}
# There are 21 runs, and the table does not need METEOR.
COMMON = ("evaluate.java=[]",)
# FSGR supposes a CLIP that has seen far more than the captioner: here it trains on 16,000 pictures of its
# own, which include the held-out looks, and the captioner on 250 others of 1,000. Concepts are looks ("brown
# cat"), and patches attend only to concepts, as in FSGR. The memory's window fits into the short training,
# and its prototypes are found twice. With the demo's dropout of 0.1 so few captions are learned by heart.
FEW = (
    "dataset.demo.pretraining_images=16000",
    "dataset.demo.train_images=1000",
    "dataset.demo.test_images=1000",
    "codebook.concepts=data/concepts/demo_looks.txt",
    "model.top_k=20",
    "model.patch_attention=false",
    "model.dropout=0.3",
    "lr=0.001",
    "train_images=250",
    "xe.batch_size=8",
    "xe.epochs=20",
    "xe.patience=20",
    "xe.schedule={warmup_epochs: 1, decay: [{epoch: 13, factor: 0.3}, {epoch: 17, factor: 0.1}]}",
    "scst.lr=0.0001",
    "scst.batch_size=8",
    "scst.epochs=20",
    "scst.patience=20",
)
SHOWN = ("CIDEr", "unseen.CIDEr", "Bleu_4", "CHAIRi", "unseen.CHAIRi")
COMPARED = ("seen.CIDEr", "unseen.CIDEr", "unseen.CHAIRi")
TIMED_STEPS, WARM_UP_STEPS = 60, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="only these networks")
    parser.add_argument("--few", action="store_true", help="a captioner of 250 pictures")
    parser.add_argument("--jobs", type=int, default=1, help="experiments at once")
    given = parser.parse_args()
    study = "few" if given.few else "ablation"
    rows = {row: (*FEW, *map(shortened, ROWS[row])) if given.few else ROWS[row] for row in given.rows}
    cells = {
        cell_name(row, seed, study): (*everything(seed), *COMMON, *changes)
        # Seed by seed within a row: where each has its own world, two workers never train one CLIP at once.
        for row, changes in rows.items()
        for seed in given.seeds
    }
    scores = run_experiments(cells, given.jobs)
    costs = {row: cost(changes) for row, changes in rows.items()}
    name = "ablation_few" if given.few else "ablation"
    save_json(RESULTS / f"{name}.json", {"scores": scores, "costs": costs})
    with whole_file(RESULTS / f"{name}_table.md") as partial:
        tables = [table(scores, costs, given.seeds, study)]
        if "baseline" in given.rows:
            tables.append(gains(scores, given.rows, given.seeds, study))
        partial.write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    plot(scores, given.rows, given.seeds, IMAGES / f"{name}.png", study=study)


def shortened(change: str) -> str:
    """The change for a captioner of 250 pictures: a window that fits into its training."""
    return PROTOTYPES % (100, 400) if change == MEMORY[0] else change


def cell_name(row: str, seed: int, study: str = "ablation") -> str:
    """The name of a cell's experiment."""
    return f"{study}-{row}-{seed}"


def cost(changes: Sequence[str]) -> dict[str, float]:
    """Trained parameters, and the median milliseconds of an XE step on the workspace's own data."""
    params = changed_params(changes)
    xe, model = params.xe, params.model
    parts, inputs = read_inputs(
        Path("data"), pick_device(), codebook=model.semantics, labels=xe.contrast is not None
    )
    inputs = inputs.choose(params.train_images, params.seed)
    assembly = build_captioner(parts, model, params.seed)
    task = prepare_xe(assembly, parts, inputs, model=model, xe=xe, seed=params.seed)
    images = captioned_images(inputs.train, assembly.vocabulary, xe, labels=inputs.labels)
    speed_up_training(assembly.captioner)
    captioner = assembly.captioner.train()
    optimiser = Optimiser(captioner, params.optimiser.name, params.lr, weight_decay=0.0, heads=task.heads)
    seconds = []
    groups = images.epoch_groups(params.xe.batch_size, seed=params.seed, epoch=1)[
        : WARM_UP_STEPS + TIMED_STEPS
    ]
    for step, batch in enumerate(images.batches(groups)):
        start = time.perf_counter()
        loss, _ = task.loss(captioner, batch.to(assembly.device), Step(params.seed, 1, step))
        loss.backward()
        optimiser.step()
        seconds.append(time.perf_counter() - start)
    trained = sum(parameter_counts(captioner).values())
    return {"parameters": trained, "xe_step_ms": 1000 * statistics.median(seconds[WARM_UP_STEPS:])}


def changed_params(changes: Sequence[str]) -> Params:
    """params.yaml with changes written as for `dvc exp run -S`."""
    values: dict[str, Any] = load_yaml(Path("params.yaml"))
    for change in changes:
        name, value = change.split("=", 1)
        *sections, key = name.split(".")
        section = values
        for inner in sections:
            section = section[inner]
        section[key] = parse_yaml(value, change)
    return Params.model_validate(values)


def table(
    scores: Mapping[str, Scores],
    costs: Mapping[str, Mapping[str, float]],
    seeds: list[int],
    study: str = "ablation",
) -> str:
    """Markdown: XE and SCST scores with their spread over the seeds, label accuracy, parameters, time."""
    head = ["network", "phase", *SHOWN, "labels", "trained parameters", "XE step, ms"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in costs:
        for phase in PHASES:
            of_seed = [scores[cell_name(row, seed, study)][phase] for seed in seeds]
            cells = [spread([one[name] for one in of_seed]) for name in (*SHOWN, "label_accuracy")]
            sizes = [f"{costs[row]['parameters']:,.0f}", f"{costs[row]['xe_step_ms']:.0f}"]
            lines.append("| " + " | ".join([row, phase.upper(), *cells, *sizes]) + " |")
    return "\n".join(lines)


def gains(
    scores: Mapping[str, Scores], rows: Sequence[str], seeds: list[int], study: str = "ablation"
) -> str:
    """Markdown: by how much each network differs from the baseline of the same seed and world.

    Worlds differ more than networks do, so the spread of the differences says what that of the scores cannot.
    """
    lines = [
        "| network - baseline | phase | " + " | ".join(COMPARED) + " |",
        "|---" * (2 + len(COMPARED)) + "|",
    ]
    for row in rows:
        for phase in PHASES if row != "baseline" else ():
            cells = []
            for name in COMPARED:
                pairs = [
                    [scores[cell_name(one, seed, study)][phase][name] for one in (row, "baseline")]
                    for seed in seeds
                ]
                cells.append(spread([own - base for own, base in pairs]))
            lines.append("| " + " | ".join([row, phase.upper(), *cells]) + " |")
    return "\n".join(lines)


def plot(
    scores: Mapping[str, Scores], rows: list[str], seeds: list[int], path: Path, *, study: str = "ablation"
) -> None:
    """CIDEr on seen and unseen combinations, one point per seed, XE beside SCST."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, part in zip(axes, ("seen", "unseen"), strict=True):
        for offset, phase, colour in ((-0.15, "xe", "#4477aa"), (0.15, "scst", "#ee6677")):
            for place, row in enumerate(rows):
                values = [scores[cell_name(row, seed, study)][phase][f"{part}.CIDEr"] for seed in seeds]
                axis.plot([place + offset] * len(values), values, "o", color=colour, alpha=0.5, markersize=4)
                axis.plot(place + offset, statistics.mean(values), "_", color=colour, markersize=14)
        axis.set_title(f"{part} combinations")
        axis.set_xticks(range(len(rows)), rows, rotation=30, ha="right")
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("CIDEr: XE blue, SCST red;\none point per seed, bars are means")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    run_command(main)
