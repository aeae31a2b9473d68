"""The files of a trained network, among the pipeline's artifacts or in an exported folder.

An exported folder contains only what captioning needs, in the layout of `data/`:
- `model.safetensors`   the trained weights, with a record of how the network is built;
- `clip/`               weights, config and preprocessing of CLIP;
- `vocab/`              the words, and CLIP's embeddings of them, where the trained ones began;
- `codebook/`           the concepts;
- `params.yaml`         the parameters of the run, for decoding and label maps;
- `metrics.json`        the scores, with where they come from;
- `README.md`           the model card.

A folder with ONNX graphs (`onnx_folder`) has them in place of the first, of `clip/` and of `codebook/`.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from fsgr_model.clip.loading import load_description
from fsgr_model.config.params import Params, load_params
from fsgr_model.inference import onnx_folder
from fsgr_model.inference.onnx_folder import OnnxFiles
from fsgr_model.network.assembly import WEIGHTS, restore
from fsgr_model.reporting.model_card import model_card
from fsgr_model.runtime.artifacts import load_json, sha256_file, whole_folder
from fsgr_model.runtime.errors import UserError

SHARED = (
    "clip/clip.json",
    "clip/clip.safetensors",
    "codebook/codebook.json",
    "codebook/codebook.safetensors",
    "vocab/words.json",
    "vocab/embeddings.safetensors",
)
FILES = (*SHARED, WEIGHTS, "params.yaml", "metrics.json", "README.md", *onnx_folder.FILES)


@dataclass(frozen=True)
class ModelFiles:
    """`artifacts` contains clip/, codebook/ and vocab/; `weights` contains model.safetensors."""

    artifacts: Path
    weights: Path
    params_file: Path

    def params(self) -> Params:
        return load_params(self.params_file)


AnyFiles = ModelFiles | OnnxFiles


def pipeline_model(phase: str, root: Path = Path()) -> ModelFiles:
    """The network of `phase` (xe or scst) that `dvc repro` trained in the project at `root`."""
    return ModelFiles(root / "data", root / "data" / "models" / phase, root / "params.yaml")


def exported_model(folder: Path) -> AnyFiles:
    """A folder that `fsgr export` wrote, with weights or with ONNX graphs.

    Raises:
        UserError: it is not such a folder.
    """
    if (folder / WEIGHTS).is_file():
        return ModelFiles(folder, folder, folder / "params.yaml")
    if (folder / onnx_folder.DESCRIPTION).is_file():
        return OnnxFiles(folder)
    raise UserError(f"{folder} has no {WEIGHTS}; give a folder that fsgr export wrote")


def export_model(phase: str, out: Path, root: Path = Path(), *, onnx: bool = False) -> None:
    """Write the network of `phase` to the new folder `out`, and load it from there once.

    Args:
        onnx: write it as ONNX graphs, and compare these with it.

    Raises:
        UserError: `out` exists, a file is missing, or the scores are those of other weights; or the network
            has no form in ONNX.
    """
    if out.exists():
        raise UserError(f"{out} exists; remove it, or give another folder")
    files = pipeline_model(phase, root)
    metrics = root / "metrics" / f"{phase}.json"
    for path in (files.weights / WEIGHTS, *(files.artifacts / name for name in SHARED), files.params_file):
        if not path.is_file():
            raise UserError(f"{path} does not exist; run dvc repro in the project's folder, then this again")
    scores = load_json(metrics)
    _check_scores(scores, files.weights / WEIGHTS, metrics)
    dataset = load_json(root / "data" / "dataset" / "report.json")
    clip = load_description(root / "data" / "clip")
    card = model_card(phase, scores, dataset, clip, params=files.params(), onnx=onnx)
    with whole_folder(out) as folder:
        shutil.copyfile(files.params_file, folder / "params.yaml")
        shutil.copyfile(metrics, folder / "metrics.json")
        (folder / "README.md").write_text(card, encoding="utf-8")
        if onnx:
            # Its library takes a second to import.
            from fsgr_model.inference.onnx_export import write_graphs

            write_graphs(files, folder)
        else:
            _copy_weights(files, folder)


def _copy_weights(files: ModelFiles, folder: Path) -> None:
    for name in SHARED:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(files.artifacts / name, folder / name)
    shutil.copyfile(files.weights / WEIGHTS, folder / WEIGHTS)
    restore(folder, folder, torch.device("cpu"))


def _check_scores(scores: dict, weights: Path, metrics: Path) -> None:
    """Scores on a model card must be those of its weights."""
    facts = {fact["what"]: fact["value"] for fact in scores["provenance"]}
    found, scored = sha256_file(weights), facts.get("sha256 of model", "none")
    if found != scored:
        raise UserError(
            f"{metrics} has the scores of weights {scored[:12]}…, but {weights} is {found[:12]}…; "
            "run dvc repro evaluate"
        )
