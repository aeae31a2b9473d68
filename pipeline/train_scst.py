"""Stage `train_scst`: self-critical training on CIDEr-D, from the XE weights on."""

from pathlib import Path

from fsgr_model.config.params import ModelParams, ScstParams, load_params
from fsgr_model.network.assembly import assemble, load_weights
from fsgr_model.runtime.artifacts import sha256_file
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import run_command
from fsgr_model.scoring.cider_d import CiderD, DocumentFrequencies
from fsgr_model.text.vocabulary import Vocabulary
from fsgr_model.training.run import Run, train
from fsgr_model.training.scst import SelfCritical
from fsgr_model.training.split_data import caption_tokens


def train_scst(run: Run, start_from: Path, model: ModelParams, scst: ScstParams) -> None:
    """Go on from the weights in `start_from`."""
    assembly = assemble(run.data, "train", model, run.seed, pick_device())
    load_weights(start_from, assembly)
    reward = training_reward(run.data, assembly.vocabulary, scst.end_token)
    phase = SelfCritical(reward, scst.samples, scst.max_length)
    inputs = {"start_from": sha256_file(start_from / "model.safetensors")}
    train(run, assembly, phase, scst, scst.lr, inputs)


def training_reward(data: Path, vocabulary: Vocabulary, end_token: bool) -> CiderD:
    """CIDEr-D against the training captions, uncut, with their own document frequencies."""
    references = {
        image_id: [vocabulary.encode(tokens, len(tokens)) for tokens in of_image]
        for image_id, of_image in caption_tokens(data, "train").items()
    }
    frequencies = DocumentFrequencies.load(data / "vocab" / "document_frequencies.safetensors", vocabulary)
    return CiderD(references, frequencies, end_token)


def main() -> None:
    params = load_params()
    run = Run(
        stage="train_scst",
        data=Path("data"),
        out=Path("data/models/scst"),
        curve=Path("plots/scst.tsv"),
        seed=params.seed,
        save_minutes=params.runtime.save_minutes,
        cache=params.runtime.cache,
    )
    train_scst(run, Path("data/models/xe"), params.model, params.scst)


if __name__ == "__main__":
    run_command(main)
