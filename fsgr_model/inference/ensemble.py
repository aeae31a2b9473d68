"""Several networks of one word list that choose each word together, by the mean of their probabilities.

They may differ in all else: size, seed, parameters, CLIP. Each keeps its own keys and values.

Shapes: B images, S captions per image, L positions, V words.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fsgr_model.inference.decoding import word_log_probs
from fsgr_model.inference.describing import Caption, DescribedImage, Describer, Voice
from fsgr_model.inference.image_captioner import ImageCaptioner
from fsgr_model.inference.model_folder import AnyFiles
from fsgr_model.inference.onnx_captioner import OnnxCaptioner
from fsgr_model.inference.onnx_folder import OnnxFiles
from fsgr_model.network.decoder import DecoderState
from fsgr_model.runtime.errors import UserError

Views = tuple[Tensor, ...]
"""A picture as the CLIP of each network sees it."""


@dataclass(frozen=True)
class EnsembleState:
    """The state of each network's decoder."""

    states: tuple[DecoderState, ...]

    @property
    def device(self) -> torch.device:
        return self.states[0].device

    def select(self, row_N: Tensor, image_B: Tensor | None = None) -> "EnsembleState":
        """As `DecoderState.select`."""
        return EnsembleState(tuple(state.select(row_N, image_B) for state in self.states))


def mean_probabilities(logits: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean of the networks' word probabilities, float32, of the shape of each."""
    log_probs = torch.stack([word_log_probs(each) for each in logits])
    return log_probs.logsumexp(dim=0) - math.log(len(logits))


def load(files: Sequence[AnyFiles], **wishes: Any) -> "Describer | EnsembleCaptioner":
    """The captioner of one network or of several; `wishes` as `ImageCaptioner` takes them.

    Raises:
        UserError: there is none; or as `ImageCaptioner` and `EnsembleCaptioner`.
    """
    if not files:
        raise UserError("no model is given; give one folder, or several for an ensemble")
    first = load_one(files[0], **wishes)
    if len(files) == 1:
        return first
    return EnsembleCaptioner([first, *(load_one(each, device=first.device) for each in files[1:])])


def load_one(files: AnyFiles, **wishes: Any) -> Describer:
    """The captioner of one network; `wishes` as `load` takes them."""
    return OnnxCaptioner(files, **wishes) if isinstance(files, OnnxFiles) else ImageCaptioner(files, **wishes)


class EnsembleCaptioner:
    """Captions pictures as an `ImageCaptioner` does; concepts, label maps and attention are the first one's.

    Args:
        members: the networks; the wishes are those of the first one.

    Raises:
        UserError: their word lists differ.
    """

    def __init__(self, members: Sequence[Describer]) -> None:
        self.members = members
        self.first = members[0]
        self.vocabulary, self.concepts = self.first.vocabulary, self.first.concepts
        self.batch_size, self.crops_centre = self.first.batch_size, self.first.crops_centre
        words = self.vocabulary.words
        for number, member in enumerate(members[1:], start=2):
            others = member.vocabulary.words
            if others != words:
                raise UserError(
                    f"model {number} of the ensemble has another word list than the first: {len(others)} and "
                    f"{len(words)} words, {len(set(others) & set(words))} of them in both; only models of "
                    "one list in one order can choose words together (vocab.words can name its file)"
                )

    def prepare(self, picture: Image.Image) -> Views:
        """As `ImageCaptioner.prepare`, for each network."""
        return tuple(member.prepare(picture) for member in self.members)

    @torch.no_grad()
    def describe(self, images: Sequence[Views]) -> list[DescribedImage]:
        """Captions of prepared images; log-probabilities are those of the ensemble."""
        encoded = [
            member.encode(of_member)
            for member, of_member in zip(self.members, zip(*images, strict=True), strict=True)
        ]
        start = EnsembleState(tuple(each.start for each in encoded))
        voice = Voice(self.step, start, lambda word_BSL: self.read(word_BSL, start))
        return self.first.spoken([views[0] for views in images], voice, encoded[0].concept_BG)

    def step(self, word_BS: Tensor, state: EnsembleState) -> tuple[Tensor, EnsembleState]:
        """Read one more word of every caption; fits `decoding.Step`."""
        read = [member.step(word_BS, own) for member, own in zip(self.members, state.states, strict=True)]
        return mean_probabilities([logits for logits, _ in read]), EnsembleState(
            tuple(own for _, own in read)
        )

    def read(self, word_BSL: Tensor, start: EnsembleState) -> Tensor:
        """Log-probabilities [B, S, L, V] of the word that follows each given word."""
        return mean_probabilities(
            [member.read(word_BSL, own) for member, own in zip(self.members, start.states, strict=True)]
        )

    def check_maps(self) -> None:
        """As `Describer.check_maps`, of the first."""
        self.first.check_maps()

    def label_map(self, image: Views) -> NDArray:
        """As `ImageCaptioner.label_map`."""
        return self.first.label_map(image[0])

    def attention(self, image: Views, caption: Caption) -> NDArray:
        """As `ImageCaptioner.attention`."""
        return self.first.attention(image[0], caption)
