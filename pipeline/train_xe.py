"""Stage `train_xe`: cross-entropy training of the captioner on the cached features."""

from pathlib import Path

import torch

from fsgr_model.clip.text_tower import load_text_tower
from fsgr_model.config.params import ModelParams, XeParams, load_params
from fsgr_model.datasets.normal_form import read_images
from fsgr_model.network.assembly import Assembly, assemble
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import run_command
from fsgr_model.runtime.row_store import RowStore
from fsgr_model.training.alignment import ProgressiveAlignment, level_weights
from fsgr_model.training.auxiliary import AuxiliaryLoss
from fsgr_model.training.contrast import PatchContrast
from fsgr_model.training.prompt_start import begin_at_patches
from fsgr_model.training.prototypes import PrototypeSearch, check_window
from fsgr_model.training.run import Run, train
from fsgr_model.training.schedule import describe_by_epoch
from fsgr_model.training.split_data import caption_tokens, drawn_images, label_maps
from fsgr_model.training.xe import CrossEntropy


def train_xe(run: Run, lr: float, model: ModelParams, xe: XeParams) -> None:
    """Train from fresh weights at the peak rate `lr`."""
    assembly, phase, labels = prepare_xe(run, model, xe)
    shuffle_seed = run.seed if xe.shuffle_features else None
    inputs = {"shuffle_seed": shuffle_seed, "labels": None if labels is None else labels.identity}
    train(run, assembly, phase, xe, lr, inputs, shuffle_seed, labels)
    if phase.prototypes is not None and not phase.prototypes.found:
        print("the best network is from before the first prototypes: its memory is empty", flush=True)


def prepare_xe(run: Run, model: ModelParams, xe: XeParams) -> tuple[Assembly, CrossEntropy, RowStore | None]:
    """The network with fresh weights, its losses, and the label maps if one of these needs them."""
    assembly = assemble(run.data, "train", model, run.seed, pick_device())
    if model.prompts and model.prompt_start == "patches":
        begin_at_patches(run.data, assembly, drawn_images(xe, run.seed), run.seed)
    labels = label_maps(run.data, "train", assembly) if xe.contrast_weight else None
    auxiliaries: list[AuxiliaryLoss] = []
    if labels is not None:
        auxiliaries.append(PatchContrast(xe.contrast_weight, xe.contrast_anchors))
    if xe.alignment == "progressive":
        auxiliaries.append(progressive_alignment(run, assembly, model.d_model, xe))
    prototypes = None
    if model.memory == "prototypes":
        check_window(model, xe, len(read_images(run.data / "dataset", "train")))
        prototypes = PrototypeSearch(assembly.captioner, model)
    return assembly, CrossEntropy(auxiliaries, prototypes), labels


def progressive_alignment(run: Run, assembly: Assembly, d_model: int, xe: XeParams) -> ProgressiveAlignment:
    """The alignment losses on the captions that are trained on; prints their weights."""
    captions = caption_tokens(run.data, "train", drawn_images(xe, run.seed))
    words = {word for of_image in captions.values() for caption in of_image for word in caption}
    tower = load_text_tower(run.data / "clip", words, assembly.device)
    weights = level_weights(xe.epochs, xe.alignment_weight)
    torch.manual_seed(run.seed)
    alignment = ProgressiveAlignment(captions, tower, d_model, tower.joint_width, weights)
    alignment.heads.to(assembly.device)
    count = sum(weight.numel() for weight in alignment.heads.parameters())
    print(f"alignment heads, dropped after training: {count:,} parameters\n{describe_by_epoch(weights)}")
    return alignment


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
