"""Does it learn? The whole pipeline with several seeds, and again with features shuffled between images.

    python -m bench.learning --seeds 42 43 44

Every run is a DVC experiment (`dvc exp show` lists learn-42, blind-42, ...); one that is already there is not
run again. Prints a Markdown table with mean and standard deviation and writes bench/results/learning.json.
A seed changes everything random: the world that is drawn, its CLIP, and both training phases.
"""

import argparse
from pathlib import Path

from bench.experiments import Scores, everything, run_experiments, spread
from fsgr_model.runtime.artifacts import save_json
from fsgr_model.runtime.errors import run_command

OUT = Path("bench/results/learning.json")
BLIND = ("xe.shuffle_features=true",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--jobs", type=int, default=1, help="experiments at once")
    given = parser.parse_args()
    # One after another by seed: the blind network then finds its seed's world and CLIP in DVC's cache.
    learn = {f"learn-{seed}": everything(seed) for seed in given.seeds}
    blind = {f"blind-{seed}": (*everything(seed), *BLIND) for seed in given.seeds}
    runs = run_experiments(learn, given.jobs) | run_experiments(blind, given.jobs)
    save_json(OUT, runs)
    print(table(runs, given.seeds))


def table(runs: dict[str, Scores], seeds: list[int]) -> str:
    """Mean and standard deviation over the seeds, one row per score."""
    columns = {"XE": ("learn", "xe"), "SCST": ("learn", "scst"), "XE, features shuffled": ("blind", "xe")}
    lines = ["| score | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name in runs[f"learn-{seeds[0]}"]["xe"]:
        cells = [
            spread([runs[f"{kind}-{seed}"][phase][name] for seed in seeds])
            for kind, phase in columns.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
