"""The stages train_xe and train_scst, from files to files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsgr_model.artifacts import fingerprint, sha256_file, whole_file, whole_folder
from fsgr_model.clip.feature_store import FeatureStore
from fsgr_model.datasets.normal_form import Split, read_captions, read_images
from fsgr_model.device import pick_device
from fsgr_model.network.assembly import Assembly, assemble, describe, load_weights, save_weights
from fsgr_model.params import ModelParams, PhaseParams, ScstParams, XeParams
from fsgr_model.scoring.cider_d import CiderD, DocumentFrequencies
from fsgr_model.training.batches import CaptionedImages
from fsgr_model.training.loop import Phase, Training
from fsgr_model.training.resume import resume_point
from fsgr_model.training.scst import SelfCritical
from fsgr_model.training.validation import Validation
from fsgr_model.training.xe import CrossEntropy


@dataclass(frozen=True)
class Run:
    """One training stage: its name, where its inputs lie, where its weights and its learning curve go."""

    stage: str
    data: Path
    out: Path
    curve: Path
    seed: int
    save_minutes: float


def train_xe(run: Run, lr: float, model: ModelParams, xe: XeParams) -> None:
    """Cross-entropy training from fresh weights."""
    assembly = assemble(run.data, "train", model, run.seed, pick_device())
    shuffle_seed = run.seed if xe.shuffle_features else None
    images = captioned_images(run.data, "train", assembly, xe.max_length, shuffle_seed)
    _train(run, assembly, CrossEntropy(), images, xe, lr, xe.max_length, shuffle_seed)


def train_scst(run: Run, start_from: Path, model: ModelParams, scst: ScstParams) -> None:
    """Self-critical training that goes on from the weights in `start_from`."""
    assembly = assemble(run.data, "train", model, run.seed, pick_device())
    load_weights(start_from, assembly)
    images = captioned_images(run.data, "train", assembly, scst.max_length)
    frequencies = DocumentFrequencies.load(run.data / "vocab" / "document_frequencies.safetensors")
    phase = SelfCritical(reward_of(...), scst.samples, scst.max_length)
    _train(run, assembly, phase, images, scst, scst.lr, scst.max_length, sha256_file(start_from / "model.safetensors"))


def captioned_images(
    data: Path, split: Split, assembly: Assembly, max_length: int, shuffle_seed: int | None = None
) -> CaptionedImages:
    """The images of a split with their cached features and their captions as word ids."""
    store = FeatureStore(data / "features" / f"{split}.h5", assembly.made_with["trunk"])
    captions = read_captions(data / "dataset")
    encode = assembly.vocabulary.encode
    ids = {
        image.image_id: [encode(caption.tokens, max_length - 1) for caption in captions[image.image_id]]
        for image in read_images(data / "dataset", split)
    }
    return CaptionedImages(store, ids, shuffle_seed)


def _train(
    run: Run,
    assembly: Assembly,
    phase: Phase,
    images: CaptionedImages,
    params: PhaseParams,
    peak_rate: float,
    max_length: int,
    further_inputs: Any,
    shuffle_seed: int | None = None,
) -> None:
    print(describe(assembly.captioner), flush=True)
    validation = Validation(captioned_images(run.data, "val", assembly, max_length, shuffle_seed), ...)
    made_of = {
        "params": params.model_dump(),
        "peak_rate": peak_rate,
        "seed": run.seed,
        "made_with": assembly.made_with,
        "images": sha256_file(run.data / "dataset" / "images.json"),
        "captions": sha256_file(run.data / "dataset" / "captions.json"),
        "further": further_inputs,
    }
    with resume_point(run.stage, fingerprint(made_of)) as resume:
        training = Training(assembly.captioner, phase, images, validation, params, peak_rate, run.seed, resume, 60 * run.save_minutes)
        history = training.run()
        with whole_folder(run.out) as folder:
            save_weights(folder, assembly)
        _write_curve(run.curve, history)
        resume.forget()


def _write_curve(path: Path, history: list[dict[str, float]]) -> None:
    """Tab-separated, a row an epoch; a number that an epoch has not is left empty."""
    names = list(dict.fromkeys(name for row in history for name in row))
    lines = ["\t".join(names)]
    lines += ["\t".join(f"{row[name]:.6g}" if name in row else "" for name in names) for row in history]
    with whole_file(path) as partial:
        partial.write_text("\n".join(lines) + "\n")
