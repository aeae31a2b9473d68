"""Stage `codebook`: the concepts and their text embeddings."""

from pathlib import Path

from fsgr_model.clip.codebook import Codebook
from fsgr_model.clip.concepts import dataset_concepts, read_concepts
from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.text_embeddings import embed_texts, templates
from fsgr_model.config.params import CodebookParams, load_params
from fsgr_model.datasets.normal_form import read_instances
from fsgr_model.runtime.artifacts import fingerprint
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import run_command

DATASET = Path("data/dataset")
CLIP = Path("data/clip")
CODEBOOK = Path("data/codebook")


def make_codebook(params: CodebookParams, dataset: Path, *, clip_folder: Path, folder: Path) -> None:
    """Embed the concepts that `params.concepts` names, and save the embeddings."""
    if params.concepts == "dataset":
        names = dataset_concepts(read_instances(dataset)["categories"])
    else:
        names = read_concepts(Path(params.concepts))
    clip = load_clip(clip_folder, pick_device())
    identity = {
        "concepts": fingerprint(names),
        "templates": params.templates,
        "weights": clip.identity["weights"],
    }
    Codebook(names, embed_texts(clip, names, templates(params.templates)), identity).save(folder)
    print(f"codebook: {len(names)} concepts, prompts '{params.templates}'")


def main() -> None:
    params = load_params()
    make_codebook(params.codebook, DATASET, clip_folder=CLIP, folder=CODEBOOK)


if __name__ == "__main__":
    run_command(main)
