"""Does it learn? The whole pipeline with several seeds, and again with features shuffled between images.

    python -m bench.learning --seeds 42 43 44

Every run is a DVC experiment (`dvc exp show` lists learn-42, blind-42, ...); one that is already there is not
run again. Prints a Markdown table with mean and standard deviation and writes docs/learning.json.
A seed changes everything random: the world that is drawn, its CLIP, and both training phases.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path

from fsgr_model.artifacts import save_json
from fsgr_model.errors import UserError, run_command

OUT = Path("docs/learning.json")
PHASES = ("xe", "scst")
# The blind network is judged by its XE scores; one epoch of SCST is enough to complete its pipeline.
BLIND = ("xe.shuffle_features=true", "scst.epochs=1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    seeds = parser.parse_args().seeds
    runs = {}
    for seed in seeds:
        runs[f"learn-{seed}"] = experiment(f"learn-{seed}", (f"seed={seed}",))
        runs[f"blind-{seed}"] = experiment(f"blind-{seed}", (f"seed={seed}", *BLIND))
    save_json(OUT, runs)
    print(table(runs, seeds))


def experiment(name: str, changes: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Metrics of both phases of a DVC experiment, run if there is none of that name."""
    if subprocess.run(["git", "rev-parse", "--verify", "-q", revision(name)], capture_output=True).returncode:
        options = [word for change in changes for word in ("-S", change)]
        subprocess.run(["dvc", "exp", "run", "--temp", "--name", name, *options], check=True)
    return {phase: scalars(f"{revision(name)}:metrics/{phase}.json") for phase in PHASES}


def revision(name: str) -> str:
    """The git reference that DVC keeps of an experiment started from the current commit."""
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return f"refs/exps/{head[:2]}/{head[2:]}/{name}"


def scalars(blob: str) -> dict[str, float]:
    """The numbers of a metrics file at a revision; its lists (what was left out, provenance) are dropped."""
    shown = subprocess.run(["git", "show", blob], capture_output=True, text=True)
    if shown.returncode:
        raise UserError(f"git has no {blob}; remove the experiment with `dvc exp remove` and run this again")
    return flat(json.loads(shown.stdout))


def flat(values: dict[str, object], prefix: str = "") -> dict[str, float]:
    """{"seen": {"CIDEr": 1.0}} -> {"seen.CIDEr": 1.0}"""
    numbers: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            numbers |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            numbers[prefix + key] = value
    return numbers


def table(runs: dict[str, dict[str, dict[str, float]]], seeds: list[int]) -> str:
    """Mean and standard deviation over the seeds, a row a score."""
    rows = {"XE": ("learn", "xe"), "SCST": ("learn", "scst"), "XE, features shuffled": ("blind", "xe")}
    names = list(runs[f"learn-{seeds[0]}"]["xe"])
    lines = ["| score | " + " | ".join(rows) + " |", "|---|" + "---|" * len(rows)]
    for name in names:
        cells = [[runs[f"{kind}-{seed}"][phase][name] for seed in seeds] for kind, phase in rows.values()]
        spread = [f"{statistics.mean(cell):.3f} ± {statistics.pstdev(cell):.3f}" for cell in cells]
        lines.append(f"| {name} | " + " | ".join(spread) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
