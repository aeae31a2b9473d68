"""Stage `train_xe`: cross-entropy training of the captioner on the cached features."""

from pathlib import Path

from fsgr_model.errors import run_command
from fsgr_model.params import load_params
from fsgr_model.training.run import Run
from fsgr_model.training.xe import train_xe


def main() -> None:
    params = load_params()
    run = Run(
        stage="train_xe",
        data=Path("data"),
        out=Path("data/models/xe"),
        curve=Path("plots/xe.tsv"),
        seed=params.seed,
        save_minutes=params.runtime.save_minutes,
        cache=params.runtime.cache,
    )
    train_xe(run, params.lr, params.model, params.xe)


if __name__ == "__main__":
    run_command(main)
