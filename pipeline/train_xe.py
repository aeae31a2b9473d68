"""Stage `train_xe`: cross-entropy training of the captioner on the cached features."""

from dataclasses import replace
from pathlib import Path

import torch

from fsgr_model.clip.text_tower import TextTower
from fsgr_model.config.model_params import ModelParams, PrototypeParams
from fsgr_model.config.params import load_params
from fsgr_model.config.training_params import XeParams
from fsgr_model.network.assembly import Assembly, Parts, build_captioner
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import run_command
from fsgr_model.runtime.processes import run_in_processes
from fsgr_model.runtime.world import ALONE, World
from fsgr_model.text.caption_table import WordTable
from fsgr_model.training.alignment import ProgressiveAlignment, level_weights
from fsgr_model.training.contrast import PatchContrast
from fsgr_model.training.inputs import Inputs, read_inputs
from fsgr_model.training.prompt_start import initialise_prompts_from_patches
from fsgr_model.training.prototypes import PrototypeSearch, check_window
from fsgr_model.training.run import Run, training_loop, write_outputs
from fsgr_model.training.schedule import describe_by_epoch
from fsgr_model.training.xe import AuxiliaryLoss, CrossEntropy


def main() -> None:
    params = load_params()
    run = Run(
        stage="train_xe",
        data=Path("data"),
        out=Path("data/models/xe"),
        curve=Path("plots/xe.tsv"),
        seed=params.seed,
        save_minutes=params.runtime.save_minutes,
        optimiser=params.optimiser,
        cache=params.runtime.cache,
        micro_batch=params.runtime.micro_batch,
        precision=params.precision,
        train_images=params.train_images,
        expected=params.on_track.xe,
        report_to=params.runtime.report_to,
    )

    def work(world: World) -> None:
        train_xe(replace(run, world=world), params.lr, params.model, params.xe)

    run_in_processes(params.runtime.processes, "pipeline.train_xe", work, launcher=params.runtime.launcher)


def train_xe(run: Run, lr: float, model: ModelParams, xe: XeParams) -> None:
    """Train from fresh weights at the peak rate `lr`; write the best weights and the curve."""
    labels = xe.contrast is not None
    parts, inputs = read_inputs(run.data, pick_device(), codebook=model.semantics, labels=labels)
    inputs = inputs.choose(run.train_images, run.seed)
    assembly = build_captioner(parts, model, run.seed)
    task = prepare_xe(assembly, parts, inputs, model=model, xe=xe, seed=run.seed, world=run.world)
    # The memory of CLIP below the cut, and of an unused text tower, is released.
    del parts
    shuffle_seed = run.seed if xe.shuffle_features else None
    with training_loop(
        run,
        inputs,
        assembly,
        task,
        params=xe,
        peak_rate=lr,
        further_inputs={"shuffle_seed": shuffle_seed, "labels": inputs.labels and inputs.labels.identity},
        shuffle_seed=shuffle_seed,
    ) as loop:
        history = loop.run()
        write_outputs(run, assembly, history)
    if task.prototypes is not None and not task.prototypes.found:
        print("the best network is from before the first prototypes: its memory is empty", flush=True)


def prepare_xe(
    assembly: Assembly,
    parts: Parts,
    inputs: Inputs,
    *,
    model: ModelParams,
    xe: XeParams,
    seed: int,
    world: World = ALONE,
) -> CrossEntropy:
    """The losses on a fresh network, with prompts initialised from patches if that is asked for."""
    train = inputs.train
    if model.tail and model.tail.prompts and model.tail.prompt_start == "patches":
        initialise_prompts_from_patches(assembly, train, seed)
    auxiliaries: list[AuxiliaryLoss] = []
    if xe.contrast:
        auxiliaries.append(PatchContrast(xe.contrast.weight, xe.contrast.anchors, world))
    if xe.alignment:
        tower = TextTower(parts.clip, set(train.tokens.counts()))
        auxiliaries.append(
            progressive_alignment(train.tokens, tower, model.d_model, xe, seed=seed, world=world)
        )
    prototypes = None
    if isinstance(model.memory, PrototypeParams):
        check_window(model, xe, len(train.tokens))
        prototypes = PrototypeSearch(assembly.captioner, model.memory, model.d_model, world)
    return CrossEntropy(auxiliaries, prototypes, world)


def progressive_alignment(
    captions: WordTable, tower: TextTower, d_model: int, xe: XeParams, *, seed: int, world: World = ALONE
) -> ProgressiveAlignment:
    """The alignment losses on the captions that are trained on; prints their weights."""
    assert xe.alignment is not None, "it is asked for"
    weights = level_weights(xe.epochs, xe.alignment.weight)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        alignment = ProgressiveAlignment(
            captions, tower, d_model, joint_width=tower.joint_width, weights=weights, world=world
        )
    alignment.heads.to(tower.layers.position_CW.device)
    count = sum(weight.numel() for weight in alignment.heads.parameters())
    print(f"alignment heads, dropped after training: {count:,} parameters\n{describe_by_epoch(weights)}")
    return alignment


if __name__ == "__main__":
    run_command(main)
