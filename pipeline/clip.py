"""Stage `clip`: the CLIP that all features, labels and word embeddings come from."""

from pathlib import Path

from fsgr_model.clip.preparation import prepare_clip
from fsgr_model.errors import run_command
from fsgr_model.params import load_params

DATASET = Path("data/dataset")
CLIP = Path("data/clip")


def main() -> None:
    params = load_params()
    prepare_clip(
        model=params.clip.model,
        pretrained=params.clip.pretrained,
        resize_mode=params.clip.resize_mode,
        training=params.clip.training,
        dataset=DATASET,
        runtime=params.runtime,
        out=CLIP,
    )


if __name__ == "__main__":
    run_command(main)
