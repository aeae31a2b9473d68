"""Progressive multi-granular alignment: encoded images meet their captions, from the whole to the parts.

Three contrastive losses over the images of a batch and one caption of each:
- image - caption   pooled encoder output and text embedding (CLIP, arXiv 2103.00020, section 2.3);
- region - phrase   pooled patches of one concept and runs of content words (GLoRIA, Huang et al., ICCV 2021);
- patch - word      single patches and content words (FILIP, arXiv 2111.07783, section 3.1).
No paper states this combination. Its schedule (`level_weights`) is a choice, and so are the regions, which
need no detector, and the phrases, which need no parser. The levels are independent of each other.

The image side is always the encoder's output, so the gradient reaches the quantised text, the embedded
patches and all that is trained in CLIP's tail, also where the tail's blocks are frozen. The text side is
CLIP's frozen text tower. Both meet in small heads. Text tower and heads serve the loss only: the
captioner never sees them, they are not part of its weights, and after training they are dropped.

Every image occurs once in a batch, with one caption, so no image has a caption of its own as a negative.

Shapes: B images, G patches, R regions, P phrases, N words, C tokens, D d_model, E joint width.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsgr_model.clip.text_tower import TextStates, TextTower
from fsgr_model.network.captioner import Encoded
from fsgr_model.runtime.device import at_least_float32
from fsgr_model.runtime.world import ALONE, World
from fsgr_model.text.function_words import phrase_of_words
from fsgr_model.training.batches import Batch
from fsgr_model.training.task import Step
from fsgr_model.training.xe import Term

LEVELS = ("image_caption", "region_phrase", "patch_word")
# GLoRIA's two temperatures, as factors: sharpness of a phrase's attention, and of the sum over phrases.
ATTENTION_SHARPNESS, PHRASE_SHARPNESS = 4.0, 5.0
FIRST_TEMPERATURE, LEAST_TEMPERATURE = 0.07, 0.01


def level_weights(epochs: int, peak: float) -> dict[str, list[float]]:
    """The weight of every level in every epoch, coarse to fine.

    Image-caption starts at `peak` and falls to half of it in epoch 4; region-phrase rises in equal steps over
    epochs 2 to 4, patch-word over epochs 4 to 7, both to `peak`.
    """
    numbers = range(1, epochs + 1)
    return {
        "image_caption": [peak if epoch < 4 else peak / 2 for epoch in numbers],
        "region_phrase": [peak * _ramp(epoch, first=2, last=4) for epoch in numbers],
        "patch_word": [peak * _ramp(epoch, first=4, last=7) for epoch in numbers],
    }


def _ramp(epoch: int, *, first: int, last: int) -> float:
    """A linear ramp over epochs: 0 before epoch `first`, then equal steps up to 1 in epoch `last`."""
    steps = last - first + 1
    return min(max(epoch - first + 1, 0), steps) / steps


class AlignmentHead(nn.Module):
    """One level: a projection of the image side, one of the text side, and a learned temperature.

    As in CLIP (arXiv 2103.00020, section 2.5) the logarithm of 1 / temperature is learned, from 0.07 on and
    never below 0.01.
    """

    def __init__(self, d_model: int, joint_width: int) -> None:
        super().__init__()
        self.image = nn.Linear(d_model, joint_width)
        self.text = nn.Linear(joint_width, joint_width)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(FIRST_TEMPERATURE)))
        for side in (self.image, self.text):
            nn.init.xavier_uniform_(side.weight)
            nn.init.zeros_(side.bias)

    def project(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """[..., D] and [..., E] to two tensors of unit rows [..., E]."""
        return F.normalize(self.image(image), dim=-1), F.normalize(self.text(text), dim=-1)

    def scale(self) -> Tensor:
        """1 / temperature."""
        with torch.no_grad():
            # The parameter itself is clamped, so that it can decrease again.
            self.log_scale.clamp_(max=-math.log(LEAST_TEMPERATURE))
        return self.log_scale.exp()


class ProgressiveAlignment:
    """The three losses of a batch, each with its weight of the epoch; a level of weight 0 is not computed."""

    def __init__(
        self,
        captions: Mapping[int, list[list[str]]],
        tower: TextTower,
        d_model: int,
        *,
        joint_width: int,
        weights: dict[str, list[float]],
        world: World = ALONE,
    ) -> None:
        """`captions`: the words of every caption, by image id; `weights`: as `level_weights` gives them.

        Of several processes, each compares the images of all and has an equal part of the loss.
        """
        self.captions, self.tower, self.weights, self.world = captions, tower, weights, world
        self.head_of = {level: AlignmentHead(d_model, joint_width) for level in LEVELS}
        self.heads: nn.Module = nn.ModuleDict(self.head_of)

    def terms(self, encoded: Encoded, batch: Batch, step: Step) -> list[Term]:
        """The levels that count in this epoch, in float32 also under autocast."""
        image_ids = self.world.gather(torch.tensor(batch.image_ids, dtype=torch.int64)).tolist()
        assert len(set(image_ids)) == len(image_ids), "an image given twice would be its own negative"
        image_BGD, concept_BG = self.world.gather(encoded.image_BGD), encoded.concept_BG
        if concept_BG is not None:
            concept_BG = self.world.gather(concept_BG)
        captions = self.drawn_captions(image_ids, step)
        states = self.tower(captions)
        counting = {level: weight[step.epoch - 1] for level, weight in self.weights.items()}
        with torch.autocast(encoded.image_BGD.device.type, enabled=False):
            text = Text(states, captions)
            return [
                Term(level, weight, self._loss(level, image_BGD, concept_BG, text) / self.world.size)
                for level, weight in counting.items()
                if weight
            ]

    def drawn_captions(self, image_ids: Sequence[int], step: Step) -> list[list[str]]:
        """One caption per image: a function of the step and of the set of images, not of their order."""
        shares = step.generator("captions").random(len(image_ids))
        share_of = dict(zip(sorted(image_ids), shares, strict=True))
        return [self.captions[i][int(share_of[i] * len(self.captions[i]))] for i in image_ids]

    def _loss(self, level: str, image_BGD: Tensor, concept_BG: Tensor | None, text: "Text") -> Tensor:
        head, image_BGD = self.head_of[level], at_least_float32(image_BGD)
        if level == "image_caption":
            image_BE, caption_BE = head.project(image_BGD.mean(dim=1), text.caption_BE)
            score_BB = image_BE @ caption_BE.T
            return contrast(score_BB, score_BB.T, head.scale())
        if level == "region_phrase":
            assert concept_BG is not None, "params refuses alignment without concepts"
            region_BRD, is_region_BR = mean_of_groups(image_BGD, regions(concept_BG))
            region_BRE, phrase_BPE = head.project(region_BRD, text.phrase_BPE)
            score_BB = region_phrase_score(region_BRE, is_region_BR, phrase_BPE, text.is_phrase_BP)
            return contrast(score_BB, score_BB.T, head.scale())
        patch_BGE, word_BNE = head.project(image_BGD, text.word_BNE)
        return contrast(*patch_word_scores(patch_BGE, word_BNE, text.is_word_BN), head.scale())


class Text:
    """Captions of a batch at three granularities, float32, not normalised: whole, their phrases, their words.

    A word is the mean of its BPE tokens, a phrase is the mean of its words; function words are left out.
    """

    def __init__(self, states: TextStates, captions: Sequence[Sequence[str]]) -> None:
        self.caption_BE = at_least_float32(states.caption_BE)
        self.word_BNE, is_read_BN = mean_of_groups(at_least_float32(states.token_BCE), states.word_BC)
        # CLIP's context may be shorter than the caption.
        lengths = is_read_BN.sum(dim=1).tolist()
        phrases = [
            torch.tensor(phrase_of_words(caption[:length]))
            for caption, length in zip(captions, lengths, strict=True)
        ]
        phrase_BN = nn.utils.rnn.pad_sequence(phrases, batch_first=True, padding_value=-1)
        phrase_BN = phrase_BN.to(self.word_BNE.device)
        self.is_word_BN = phrase_BN >= 0
        self.phrase_BPE, self.is_phrase_BP = mean_of_groups(self.word_BNE, phrase_BN)


def mean_of_groups(x_BMD: Tensor, group_BM: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the rows of each group: [B, groups, D], and which groups there are: bool [B, groups].

    `group_BM`: int64, numbered from 0 on in every image; -1 belongs to none.
    """
    groups = int(group_BM.max()) + 1
    member_BMR = F.one_hot(group_BM + 1, groups + 1)[..., 1:].to(x_BMD.dtype)
    size_BR = member_BMR.sum(dim=1)
    return member_BMR.transpose(1, 2) @ x_BMD / size_BR.clamp(min=1)[..., None], size_BR > 0


def regions(concept_BG: Tensor) -> Tensor:
    """The region of each patch, int64 [B, G]: patches of one concept, numbered from 0 on in every image."""
    ordered_BG, patch_BG = concept_BG.sort(dim=1)
    number_BG = F.pad((ordered_BG.diff(dim=1) != 0).long().cumsum(dim=1), (1, 0))
    return torch.empty_like(number_BG).scatter_(1, patch_BG, number_BG)


def region_phrase_score(
    region_BRE: Tensor, is_region_BR: Tensor, phrase_BPE: Tensor, is_phrase_BP: Tensor
) -> Tensor:
    """How well image b (row) has what caption c (column) names, [B, B] (GLoRIA, section 3.2).

    Each phrase attends to the regions and is compared with the attended one: log mean exp of the cosines,
    where GLoRIA sums (a choice: a caption should not score higher for having more phrases). Rows are unit
    vectors.
    """
    cosine_BBPR = torch.einsum("bre,cpe->bcpr", region_BRE, phrase_BPE)
    masked_BBPR = (ATTENTION_SHARPNESS * cosine_BBPR).masked_fill(~is_region_BR[:, None, None], -torch.inf)
    attention_BBPR = masked_BBPR.softmax(dim=-1)
    # The attended region is not computed: its product with the phrase and its norm follow from the cosines.
    product_BBP = (attention_BBPR * cosine_BBPR).sum(dim=-1)
    between_BRR = region_BRE @ region_BRE.transpose(1, 2)
    square_BBP = torch.einsum("bcpr,brs,bcps->bcp", attention_BBPR, between_BRR, attention_BBPR)
    match_BBP = PHRASE_SHARPNESS * product_BBP * square_BBP.clamp(min=1e-12).rsqrt()
    match_BBP = match_BBP.masked_fill(~is_phrase_BP, -torch.inf)
    return (match_BBP.logsumexp(dim=-1) - is_phrase_BP.sum(dim=-1).log()) / PHRASE_SHARPNESS


def patch_word_scores(patch_BGE: Tensor, word_BNE: Tensor, is_word_BN: Tensor) -> tuple[Tensor, Tensor]:
    """Image to text and text to image, [B, B] each, own side in the rows (FILIP, eq. 4 and 5).

    The mean over patches of the cosine with their best word, and the mean over words of that with their best
    patch. Rows are unit vectors.
    """
    (B, G, _), N = patch_BGE.shape, word_BNE.shape[1]
    cosine_BGBN = (patch_BGE.flatten(0, 1) @ word_BNE.flatten(0, 1).T).view(B, G, -1, N)
    best_word_BGB = cosine_BGBN.masked_fill(~is_word_BN, -torch.inf).amax(dim=-1)
    best_patch_BBN = cosine_BGBN.amax(dim=1)
    words_B = is_word_BN.sum(dim=-1)
    text_to_image_BB = (best_patch_BBN * is_word_BN).sum(dim=-1) / words_B
    return best_word_BGB.mean(dim=1), text_to_image_BB.T


def contrast(image_to_text_BB: Tensor, text_to_image_BB: Tensor, scale: Tensor) -> Tensor:
    """Half the cross-entropy of each image with its caption, and half that of each caption with its image
    (arXiv 2103.00020, figure 3); own side in the rows.
    """
    own_B = torch.arange(len(image_to_text_BB), device=image_to_text_BB.device)
    of_images = F.cross_entropy(scale * image_to_text_BB, own_B)
    of_captions = F.cross_entropy(scale * text_to_image_BB, own_B)
    return (of_images + of_captions) / 2
