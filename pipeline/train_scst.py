"""Stage `train_scst`: self-critical training on CIDEr-D, from the XE weights on."""

from pathlib import Path

from fsgr_model.errors import run_command
from fsgr_model.params import load_params
from fsgr_model.training.run import Run
from fsgr_model.training.scst import train_scst


def main() -> None:
    params = load_params()
    run = Run(
        stage="train_scst",
        data=Path("data"),
        out=Path("data/models/scst"),
        curve=Path("plots/scst.tsv"),
        seed=params.seed,
        save_minutes=params.runtime.save_minutes,
        cache=params.runtime.cache,
    )
    train_scst(run, Path("data/models/xe"), params.model, params.scst)


if __name__ == "__main__":
    run_command(main)
