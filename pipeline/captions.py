"""Stage `captions`: beam search on the test split, as COCO result files."""

from pathlib import Path

from fsgr_model.clip.loading import load_clip
from fsgr_model.config.decode_params import DecodeParams
from fsgr_model.config.model_params import ModelParams
from fsgr_model.config.params import load_params
from fsgr_model.inference.captioning import caption_images
from fsgr_model.kernels.inference import speed_up_inference
from fsgr_model.network.assembly import Parts, build_captioner, load_weights, read_parts
from fsgr_model.runtime.artifacts import save_json
from fsgr_model.runtime.device import Precision, pick_device
from fsgr_model.runtime.errors import run_command
from fsgr_model.runtime.progress import progress
from fsgr_model.runtime.row_store import RowStore, groups_of

DATA = Path("data")


def main() -> None:
    params = load_params()
    parts, features = read_test_split(DATA, params.model)
    for phase in ("xe", "scst"):
        captions = caption_split(
            parts,
            features,
            DATA / "models" / phase,
            params.model,
            decode=params.decode,
            precision=params.precision,
            batch_size=params.runtime.caption_batch,
        )
        save_json(DATA / "captions" / f"{phase}.json", captions)


def read_test_split(data: Path, model: ModelParams) -> tuple[Parts, RowStore]:
    """What both networks are built of, and the features of the test split, which say where CLIP was cut."""
    clip = load_clip(data / "clip", pick_device())
    features = RowStore(data / "features" / "test.h5", clip.identity)
    return read_parts(data, clip, features.identity, model.semantics), features


def caption_split(
    parts: Parts,
    features: RowStore,
    weights: Path,
    model: ModelParams,
    *,
    decode: DecodeParams,
    precision: Precision,
    batch_size: int,
) -> list[dict[str, int | str]]:
    """COCO results, `[{"image_id": 1, "caption": "…"}]`, of all images with features, by ascending id."""
    # The seed does not matter, since every weight is read from the file.
    assembly = build_captioner(parts, model, seed=0)
    load_weights(weights, assembly)
    speed_up_inference(assembly.captioner)
    groups = groups_of(features.image_ids, batch_size)
    captions: list[dict[str, int | str]] = []
    for group in progress(groups, len(groups), f"captions of {weights.name}", unit="batches"):
        texts = caption_images(assembly, features, group, decode, precision=precision)
        captions += [{"image_id": number, "caption": text} for number, text in zip(group, texts, strict=True)]
    return captions


if __name__ == "__main__":
    run_command(main)
