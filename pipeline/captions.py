"""Stage `captions`: beam search on the test split, as COCO result files."""

from pathlib import Path

from fsgr_model.captioning import caption_split
from fsgr_model.errors import run_command
from fsgr_model.params import load_params


def main() -> None:
    params = load_params()
    for phase in ("xe", "scst"):
        caption_split(
            data=Path("data"),
            weights=Path("data/models") / phase,
            out=Path("data/captions") / f"{phase}.json",
            model=params.model,
            decode=params.decode,
        )


if __name__ == "__main__":
    run_command(main)
