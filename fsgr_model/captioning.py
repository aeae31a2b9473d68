"""Captions of a whole split by beam search.

Shapes: B images, S beams of an image, L positions, T trunk tokens, W vision width.
"""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from fsgr_model.artifacts import save_json
from fsgr_model.clip.feature_store import RowStore, groups_of
from fsgr_model.decoding import beam_search
from fsgr_model.device import autocast, pick_device
from fsgr_model.errors import UserError
from fsgr_model.gpu_memory import within_memory
from fsgr_model.network.assembly import Assembly, assemble, load_weights
from fsgr_model.network.captioner import Captioner, Encoded
from fsgr_model.network.onednn_linear import hand_to_onednn
from fsgr_model.params import DecodeParams, ModelParams
from fsgr_model.progress import progress


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


def caption_images(
    assembly: Assembly, store: RowStore, image_ids: list[int], decode: DecodeParams
) -> list[str]:
    """The best caption of each image."""
    tokens_BTW = torch.from_numpy(store.rows(image_ids)).to(assembly.device).float()

    def caption(images: int) -> Tensor:
        return search(assembly.captioner, tokens_BTW[:images], decode)[1]

    count = len(image_ids)
    caption_BSL = within_memory(partial(caption, count), caption, count, "decode.batch_size")
    return [assembly.vocabulary.decode(row) for row in caption_BSL[:, 0].tolist()]


@torch.no_grad()
def search(captioner: Captioner, tokens_BTW: Tensor, decode: DecodeParams) -> tuple[Encoded, Tensor]:
    """The encoded images, and their captions [B, S, L] int64 by beam search, the best first.

    Raises:
        UserError: the best caption of an image has no finite probability.
    """
    captioner.eval()
    with autocast(tokens_BTW.device):
        encoded = captioner.encode(tokens_BTW)
        caption_BSL, score_BS = beam_search(
            captioner.step, encoded.start, len(tokens_BTW), decode.beam_size, decode.max_length
        )
    if not (finite_B := score_BS[:, 0].isfinite()).all():
        raise UserError(
            f"the network gives the captions of {int((~finite_B).sum())} of {len(finite_B)} images no finite "
            "probability: its weights hold NaN or overflow; train it again with a smaller learning rate"
        )
    return encoded, caption_BSL
