"""Stage `evaluate`: scores of the test split's captions, where they come from, and the sample sheet."""

from pathlib import Path

from fsgr_model.errors import run_command
from fsgr_model.params import load_params
from fsgr_model.scoring.evaluation import evaluate
from fsgr_model.scoring.standing import standing


def main() -> None:
    params = load_params()
    evaluate(
        data=Path("data"),
        params_file=Path("params.yaml"),
        metrics=Path("metrics"),
        by_image=Path("data/scores"),
        sheet=Path("plots/sheet.png"),
        params=params.evaluate,
    )
    for line in standing(Path("metrics"), Path("params.yaml")):
        print(line)


if __name__ == "__main__":
    run_command(main)
