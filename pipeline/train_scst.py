"""Stage `train_scst`: self-critical training on CIDEr-D or other rewards, starting from the XE weights."""

from dataclasses import replace
from pathlib import Path

from fsgr_model.config.model_params import ModelParams
from fsgr_model.config.params import load_params
from fsgr_model.config.training_params import ScstParams
from fsgr_model.datasets.normal_form import INSTANCES
from fsgr_model.network.assembly import build_captioner, load_weights, weights_sha256
from fsgr_model.runtime.artifacts import checksum_of
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import run_command
from fsgr_model.runtime.processes import run_in_processes
from fsgr_model.runtime.world import World
from fsgr_model.scoring.document_frequencies import DocumentFrequencies
from fsgr_model.training.inputs import read_inputs
from fsgr_model.training.rewards import RewardSources, make_rewards
from fsgr_model.training.run import Run, training_loop, write_outputs
from fsgr_model.training.scst import SelfCritical


def main() -> None:
    params = load_params()
    run = Run(
        stage="train_scst",
        data=Path("data"),
        out=Path("data/models/scst"),
        curve=Path("plots/scst.tsv"),
        seed=params.seed,
        save_minutes=params.runtime.save_minutes,
        optimiser=params.optimiser,
        cache=params.runtime.cache,
        micro_batch=params.runtime.micro_batch,
        precision=params.precision,
        train_images=params.train_images,
        expected=params.on_track.scst,
        report_to=params.runtime.report_to,
    )

    def work(world: World) -> None:
        train_scst(replace(run, world=world), Path("data/models/xe"), params.model, params.scst)

    run_in_processes(params.runtime.processes, "pipeline.train_scst", work, launcher=params.runtime.launcher)


def train_scst(run: Run, start_from: Path, model: ModelParams, scst: ScstParams) -> None:
    """Start from the weights in `start_from`; write the best weights and the curve."""
    run = replace(run, optimiser=scst.optimiser or run.optimiser)
    parts, inputs = read_inputs(run.data, pick_device(), codebook=model.semantics, labels=False)
    inputs = inputs.choose(run.train_images, run.seed)
    vocabulary = parts.vocabulary
    frequencies = DocumentFrequencies.load(
        run.data / "vocab" / "document_frequencies.safetensors", vocabulary
    )
    assembly = build_captioner(parts, model, run.seed)
    load_weights(start_from, assembly)
    dataset = run.data / "dataset"
    sources = RewardSources(inputs.train, vocabulary, frequencies, parts.clip, dataset)
    task = SelfCritical(
        make_rewards(scst, sources),
        num_samples=scst.samples,
        max_length=scst.max_length,
        baseline=scst.baseline,
        world=run.world,
    )
    # The memory of CLIP below the cut is released, unless a reward needs it.
    del parts, sources
    further_inputs = {"start_from": weights_sha256(assembly)}
    if scst.reward and scst.reward.chair:
        further_inputs["instances"] = checksum_of(dataset / INSTANCES)
    with training_loop(
        run,
        inputs,
        assembly,
        task,
        params=scst,
        peak_rate=scst.lr,
        further_inputs=further_inputs,
    ) as loop:
        history = loop.run()
        write_outputs(run, assembly, history)


if __name__ == "__main__":
    run_command(main)
