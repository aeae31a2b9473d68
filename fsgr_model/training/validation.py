"""The validation score of a network: CIDEr-D of its greedy captions."""

from collections.abc import Mapping

import torch

from fsgr_model.config.text_params import Segmenter
from fsgr_model.config.training_params import PhaseParams
from fsgr_model.inference.decoding import greedy
from fsgr_model.network.captioner import Captioner
from fsgr_model.runtime.device import Precision, autocast
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.world import ALONE, World
from fsgr_model.scoring.cider_d import CiderD
from fsgr_model.scoring.document_frequencies import DocumentFrequencies
from fsgr_model.scoring.meaning import why_no_cider, why_no_words
from fsgr_model.text.vocabulary import Vocabulary
from fsgr_model.training.batches import CaptionedImages
from fsgr_model.training.variety import Variety

# Images whose captions are shown to whoever watches a run.
SAMPLES = 6


class Validation:
    """Scores greedy captions of all validation images; CIDEr-D as published (1.0 stands for 100%).

    `samples`: image ids and captions of some images of the last validation; `variety`: of all of them.
    """

    def __init__(
        self,
        images: CaptionedImages,
        cider_d: CiderD,
        vocabulary: Vocabulary,
        *,
        params: PhaseParams,
        precision: Precision,
        world: World = ALONE,
    ) -> None:
        """Of several processes, each captions some of the batches; all get the same score."""
        self.world = world
        self.vocabulary = vocabulary
        self.samples: list[tuple[int, str]] = []
        self.variety: Variety | None = None
        self.images = images
        self.cider_d = cider_d
        self.groups = images.groups(params.batch_size)
        self.max_length, self.precision = params.max_length, precision

    @torch.no_grad()
    def score(self, model: Captioner, device: torch.device) -> float:
        """Mean CIDEr-D. The network is left in evaluation mode."""
        model.eval()
        scored: list[tuple[float, list[str]]] = []
        samples: list[tuple[int, str]] = []
        for batch in self.images.batches(self.world.deal(self.groups)):
            with autocast(device, self.precision):
                encoded = model.encode(batch.to(device).tokens_BTW)
                caption_B1L = greedy(
                    model.step, encoded.start, len(batch.image_ids), max_length=self.max_length
                )
            caption_BL = caption_B1L[:, 0].cpu().numpy()
            captions = [self.vocabulary.decode(caption) for caption in caption_BL.tolist()]
            scored.append((float(self.cider_d.score(caption_BL, batch.image_ids).sum()), captions))
            samples += zip(batch.image_ids, captions, strict=True)
        self.samples = samples[:SAMPLES]
        # In the order of one process, so that the sum has its bits.
        total, everything = 0.0, []
        for score, captions in self.world.collect(scored):
            total += score
            everything += captions
        self.variety = Variety.of(everything)
        return total / len(self.images.image_ids)


def make_validation(
    images: CaptionedImages,
    tokens: Mapping[int, list[list[str]]],
    vocabulary: Vocabulary,
    params: PhaseParams,
    *,
    precision: Precision,
    world: World = ALONE,
) -> Validation:
    """Validation as the metric is published: document frequencies of the validation references themselves,
    no end token, and words outside of the vocabulary kept distinct.

    Args:
        tokens: image id -> the tokens of each of its captions.

    Raises:
        UserError: CIDEr-D of these references would be 0 for any captions, so that no epoch could be chosen
            by it.
    """
    check_meaning(tokens, vocabulary.segmenter)
    unlisted: dict[str, int] = {}
    references = {
        image_id: [vocabulary.encode_open(caption, unlisted) for caption in of_image]
        for image_id, of_image in tokens.items()
    }
    frequencies = DocumentFrequencies.build(references.values(), len(vocabulary) + len(unlisted))
    cider_d = CiderD(references, frequencies, end_token=False)
    return Validation(images, cider_d, vocabulary, params=params, precision=precision, world=world)


def check_meaning(tokens: Mapping[int, list[list[str]]], segmenter: Segmenter = "ptb") -> None:
    """Stop before an epoch is chosen by a meaningless CIDEr-D.

    Args:
        tokens: image id -> the tokens of each of its captions.
        segmenter: what made them.

    Raises:
        UserError: it is meaningless; the message gives the reason.
    """
    references = {image_id: [" ".join(each) for each in of_image] for image_id, of_image in tokens.items()}
    reason = why_no_words(references.values()) if segmenter == "ptb" else None
    if not reason and (no_cider := why_no_cider(references)):
        reason = f"{no_cider}; put several images with captions of their own into it"
    if reason:
        raise UserError(
            f"the best epoch is chosen by CIDEr-D of the validation split, which means nothing here: {reason}"
        )
