"""Stage `codebook`: the concepts and their text embeddings."""

from pathlib import Path

from fsgr_model.clip.codebook import make_codebook
from fsgr_model.errors import run_command
from fsgr_model.params import load_params

DATASET = Path("data/dataset")
CLIP = Path("data/clip")
CODEBOOK = Path("data/codebook")


def main() -> None:
    params = load_params()
    make_codebook(params.codebook, DATASET, CLIP, CODEBOOK)


if __name__ == "__main__":
    run_command(main)
