"""Several networks that caption pictures together, as `mean_probability` says.

Shapes: B images, S captions per image, L positions, V words.
"""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fsgr_model.inference.describing import Caption, DescribedImage, Describer, Voice
from fsgr_model.inference.image_captioner import ImageCaptioner
from fsgr_model.inference.mean_probability import (
    EnsembleState,
    mean_probabilities,
    refuse_other_words,
    step_together,
)
from fsgr_model.inference.model_folder import AnyFiles
from fsgr_model.inference.onnx_captioner import OnnxCaptioner
from fsgr_model.inference.onnx_folder import OnnxFiles
from fsgr_model.runtime.errors import UserError

Views = tuple[Tensor, ...]
"""A picture as the CLIP of each network sees it."""


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
        for number, member in enumerate(members[1:], start=2):
            refuse_other_words(self.vocabulary, member.vocabulary, f"model {number}")
        self.step = step_together(members)

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
