"""Captions of a batch of images by beam search.

Shapes: B images, S beams per image, L positions, T trunk tokens, W vision width.
"""

import torch
from torch import Tensor

from fsgr_model.clip.token_cache import read_tokens
from fsgr_model.config.params import DecodeParams
from fsgr_model.inference.beam_search import beam_search
from fsgr_model.network.assembly import Assembly
from fsgr_model.network.captioner import Captioner, Encoded
from fsgr_model.runtime.device import Precision, autocast
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.gpu_memory import suggest_batch_size
from fsgr_model.runtime.row_store import RowStore


def caption_images(
    assembly: Assembly, store: RowStore, image_ids: list[int], decode: DecodeParams, *, precision: Precision
) -> list[str]:
    """The best caption of each image."""
    tokens_BTW = read_tokens(store, image_ids, assembly.device)

    def caption(images: int) -> Tensor:
        return search(assembly.captioner, tokens_BTW[:images], decode, precision)[1]

    count = len(image_ids)
    with suggest_batch_size(caption, count, "runtime.caption_batch"):
        caption_BSL = caption(count)
    return [assembly.vocabulary.decode(row) for row in caption_BSL[:, 0].tolist()]


@torch.no_grad()
def search(
    captioner: Captioner, tokens_BTW: Tensor, decode: DecodeParams, precision: Precision
) -> tuple[Encoded, Tensor]:
    """The encoded images, and their captions [B, S, L] int64 by beam search, the best first.

    Raises:
        UserError: the best caption of an image has no finite probability.
    """
    captioner.eval()
    with autocast(tokens_BTW.device, precision):
        encoded = captioner.encode(tokens_BTW)
        caption_BSL, score_BS = beam_search(
            captioner.step,
            encoded.start,
            len(tokens_BTW),
            beam_size=decode.beam_size,
            max_length=decode.max_length,
        )
    if not (finite_B := score_BS[:, 0].isfinite()).all():
        raise UserError(
            f"the network gives the captions of {int((~finite_B).sum())} of {len(finite_B)} images no finite "
            "probability: its weights hold NaN or overflow; train it again with a smaller learning rate"
        )
    return encoded, caption_BSL
