"""Stage `features`: every image through the frozen trunk of CLIP, once."""

from pathlib import Path

from fsgr_model.clip.extraction import extract_features
from fsgr_model.errors import run_command
from fsgr_model.params import load_params

DATASET = Path("data/dataset")
CLIP = Path("data/clip")
FEATURES = Path("data/features")


def main() -> None:
    params = load_params()
    extract_features(DATASET, CLIP, params.clip.cut, params.runtime, FEATURES)


if __name__ == "__main__":
    run_command(main)
