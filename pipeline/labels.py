"""Stage `labels`: a MaskCLIP label map of every image."""

from pathlib import Path

from fsgr_model.clip.label_maps import make_label_maps
from fsgr_model.errors import run_command
from fsgr_model.params import load_params

CLIP = Path("data/clip")
CODEBOOK = Path("data/codebook")
FEATURES = Path("data/features")
LABELS = Path("data/labels")


def main() -> None:
    params = load_params()
    make_label_maps(CLIP, params.clip.cut, CODEBOOK, FEATURES, params.labels, params.runtime, LABELS)


if __name__ == "__main__":
    run_command(main)
