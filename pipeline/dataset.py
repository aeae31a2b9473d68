"""Stage `dataset`: images, captions and instances in the one normal form that every later stage reads."""

from pathlib import Path

from fsgr_model.datasets.build import build_dataset
from fsgr_model.errors import run_command
from fsgr_model.params import load_params

DATASET = Path("data/dataset")


def main() -> None:
    params = load_params()
    build_dataset(params.dataset, DATASET, params.runtime.workers)


if __name__ == "__main__":
    run_command(main)
