"""Stage `captions`: beam search on the test split, as COCO result files."""

from pathlib import Path

from fsgr_model.config.params import DecodeParams, ModelParams, load_params
from fsgr_model.inference.captioning import caption_images
from fsgr_model.kernels.onednn_layers import hand_to_onednn
from fsgr_model.network.assembly import assemble, load_weights
from fsgr_model.runtime.artifacts import save_json
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import run_command
from fsgr_model.runtime.progress import progress
from fsgr_model.runtime.row_store import RowStore, groups_of


def caption_split(data: Path, weights: Path, out: Path, model: ModelParams, decode: DecodeParams) -> None:
    """Write a COCO result file, `[{"image_id": 1, "caption": "…"}]`, of the test split in ascending order."""
    # The seed is of no consequence: every weight is read from the file.
    assembly = assemble(data, "test", model, seed=0, device=pick_device())
    load_weights(weights, assembly)
    hand_to_onednn(assembly.captioner)
    store = RowStore(data / "features" / "test.h5", assembly.made_with["trunk"])
    groups = groups_of(store.image_ids, decode.batch_size)
    results = [
        {"image_id": image_id, "caption": caption}
        for group in progress(groups, len(groups), f"captions of {weights.name}", "batches")
        for image_id, caption in zip(group, caption_images(assembly, store, group, decode), strict=True)
    ]
    save_json(out, results)


def main() -> None:
    params = load_params()
    for phase in ("xe", "scst"):
        caption_split(
            data=Path("data"),
            weights=Path("data/models") / phase,
            out=Path("data/captions") / f"{phase}.json",
            model=params.model,
            decode=params.decode,
        )


if __name__ == "__main__":
    run_command(main)
