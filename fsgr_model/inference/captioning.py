"""Captions of a batch of images, searched or drawn as `decode` says.

Shapes: B images, S captions per image, L positions, T trunk tokens, W vision width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fsgr_model.clip.token_cache import read_tokens
from fsgr_model.config.decode_params import DecodeParams
from fsgr_model.inference.beam_search import NOTHING_ASKED, Guidance, beam_search, diverse_beam_search
from fsgr_model.inference.consensus import by_consensus
from fsgr_model.inference.decoding import State, Step, sample
from fsgr_model.inference.mean_probability import EnsembleState, step_together
from fsgr_model.inference.wishes import Unfulfilled, understand
from fsgr_model.network.assembly import Assembly
from fsgr_model.network.captioner import Captioner, Encoded
from fsgr_model.runtime.device import Precision, autocast
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.gpu_memory import suggest_batch_size
from fsgr_model.runtime.listing import listed
from fsgr_model.runtime.row_store import RowStore
from fsgr_model.text.vocabulary import UNK


@dataclass(frozen=True)
class Member:
    """A network that chooses words together with others.

    `tokens`: float32 [B, T, W] on its device, of the images with these ids, as its CLIP sees them.
    """

    assembly: Assembly
    tokens: Callable[[Sequence[int]], Tensor]


def caption_images(
    assembly: Assembly,
    store: RowStore,
    image_ids: list[int],
    decode: DecodeParams,
    *,
    precision: Precision,
    members: Sequence[Member] = (),
) -> list[str]:
    """The best caption of each image. Draws are a function of the models and the image's id.

    Args:
        store: the features that the network of `assembly` reads.
        members: networks of the same words that choose with it.

    Raises:
        UserError: as `speak`; the message names the images.
    """
    captioners = [assembly.captioner, *(member.assembly.captioner for member in members)]
    tokens = [read_tokens(store, image_ids, assembly.device), *(each.tokens(image_ids) for each in members)]
    guidance = understand(decode, assembly.vocabulary, assembly.device)

    def caption(images: int) -> Tensor:
        seen = [tokens_BTW[:images] for tokens_BTW in tokens]
        seeds = image_ids[:images]
        if members:
            return search_together(captioners, seen, decode, precision, guidance=guidance, seeds=seeds)
        return search(captioners[0], seen[0], decode, precision, guidance=guidance, seeds=seeds)[1]

    count = len(image_ids)
    with suggest_batch_size(caption, count, "runtime.caption_batch"):
        try:
            caption_BSL = caption(count)
        except Unfulfilled as lack:
            ids = [image_ids[place] for place in sorted(lack.places)]
            raise Unfulfilled(f"image {listed(ids)}", lack.places) from None
    return [assembly.vocabulary.decode(row) for row in caption_BSL[:, 0].tolist()]


@torch.no_grad()
def search(
    captioner: Captioner,
    tokens_BTW: Tensor,
    decode: DecodeParams,
    precision: Precision,
    *,
    guidance: Guidance = NOTHING_ASKED,
    seeds: Sequence[int] = (),
) -> tuple[Encoded, Tensor]:
    """The encoded images, and their captions [B, S, L] int64, as `speak` returns them.

    Raises:
        UserError: as `speak`.
    """
    captioner.eval()
    with autocast(tokens_BTW.device, precision):
        encoded = captioner.encode(tokens_BTW)
        caption_BSL = speak(
            captioner.step, encoded.start, len(tokens_BTW), decode=decode, guidance=guidance, seeds=seeds
        )
    return encoded, caption_BSL


@torch.no_grad()
def search_together(
    captioners: Sequence[Captioner],
    tokens: Sequence[Tensor],
    decode: DecodeParams,
    precision: Precision,
    *,
    guidance: Guidance = NOTHING_ASKED,
    seeds: Sequence[int] = (),
) -> Tensor:
    """Captions [B, S, L] of networks that choose each word together, from the tokens [B, T, W] of each.

    Raises:
        UserError: as `speak`.
    """
    with autocast(tokens[0].device, precision):
        encoded = [
            captioner.eval().encode(tokens_BTW)
            for captioner, tokens_BTW in zip(captioners, tokens, strict=True)
        ]
        start = EnsembleState(tuple(each.start for each in encoded))
        step = step_together(captioners)
        return speak(step, start, len(tokens[0]), decode=decode, guidance=guidance, seeds=seeds)


def speak(
    step: Step,
    start: State,
    num_images: int,
    *,
    decode: DecodeParams,
    guidance: Guidance,
    seeds: Sequence[int],
) -> Tensor:
    """Captions of each image, [B, S, L] int64; the best first, or in the order in which they were drawn.

    The S captions are the beam or the samples. Where there are fewer, nothing but <pad> fills the places.

    Args:
        guidance: what `understand` makes of `decode`.
        seeds: of the draws of each image; a search needs none.

    Raises:
        Unfulfilled: an image has no caption that fulfils the wishes.
        UserError: the best caption of an image has no finite probability.
    """
    if decode.sampling:
        return _drawn(step, start, num_images, decode=decode, guidance=guidance, seeds=seeds)
    if decode.groups:
        caption_BSL, score_BS = diverse_beam_search(
            step,
            start,
            num_images,
            groups=decode.groups.count,
            strength=decode.groups.strength,
            beam_size=decode.beam_size,
            max_length=decode.max_length,
            guidance=guidance,
        )
    else:
        caption_BSL, score_BS = beam_search(
            step,
            start,
            num_images,
            beam_size=decode.beam_size,
            max_length=decode.max_length,
            guidance=guidance,
        )
    _check(score_BS[:, 0], guidance)
    return caption_BSL


def _drawn(
    step: Step,
    start: State,
    num_images: int,
    *,
    decode: DecodeParams,
    guidance: Guidance,
    seeds: Sequence[int],
) -> Tensor:
    assert decode.sampling is not None
    caption_BSL = sample(
        step,
        start,
        num_images,
        num_samples=decode.sampling.samples,
        max_length=decode.max_length,
        rules=guidance.rules,
        generators=[torch.Generator(start.device).manual_seed(seed) for seed in seeds],
    )
    if (dead_B := (caption_BSL == UNK).any(dim=-1).any(dim=-1)).any():
        raise _none_for(dead_B)
    return by_consensus(caption_BSL) if decode.sampling.consensus else caption_BSL


def _none_for(dead_B: Tensor) -> Unfulfilled:
    places = dead_B.nonzero()[:, 0].tolist()
    return Unfulfilled(f"{len(places)} of {len(dead_B)} images", places)


def _check(score_B: Tensor, guidance: Guidance) -> None:
    """The best captions have a probability."""
    asked = bool(guidance.rules) or guidance.must is not None
    if asked and (dead_B := score_B == -torch.inf).any():
        raise _none_for(dead_B)
    if not (finite_B := score_B.isfinite()).all():
        raise UserError(
            f"the network gives the captions of {int((~finite_B).sum())} of {len(finite_B)} images no finite "
            "probability: its weights hold NaN or overflow; train it again with a smaller learning rate"
        )
