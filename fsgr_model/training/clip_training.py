"""A small CLIP trained from scratch on the training split only, for data sets of a few thousand images.

open_clip's contrastive loss (CLIP, arXiv 2103.00020) compares the images with their captions. A second one
compares them with short phrases cut from the captions, and a third compares the phrases with the patches most
similar to them (as GLoRIA, Huang et al., ICCV 2021, compares words). A phrase often names one object only; so
nouns get a meaning of their own, and label maps, which use single nouns, find their objects.

A model with a bias of its logits, as SigLIP has, is trained with the sigmoid loss (arXiv 2303.15343) instead.

Shapes: N images, B pairs per step, G patches, C context length, E joint width.
"""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from fsgr_model.clip.logit_scale import MOST_LOG_SCALE
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.text_tower import text_embedding
from fsgr_model.clip.towers import image_and_patches
from fsgr_model.config.params import ClipTrainingParams
from fsgr_model.kernels.training import speed_up_training
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.resume import ResumePoint
from fsgr_model.runtime.row_store import groups_of
from fsgr_model.runtime.world import ALONE, World
from fsgr_model.training.clip_draws import draw_clip_by_image
from fsgr_model.training.clip_pairs import PairBatch, Pairs
from fsgr_model.training.loop import Loop
from fsgr_model.training.optimiser import Optimiser
from fsgr_model.training.picture_changes import change_pictures
from fsgr_model.training.schedule import CosineRates
from fsgr_model.training.task import Step, Task

# A softmax of the cosines times this gives the weights of the patches for a phrase.
PATCH_SHARPNESS = 20.0
EXCLUDED = -1e4


class CompactEmbedding:
    """Trains only the token embeddings that the captions use; the other rows of the table stay as drawn.

    Their gradient is zero, and a pass of Adam over all 49,408 rows would take most of a step. New numbers are
    in the order of the old ones, because open_clip finds the end token as the largest id.
    """

    def __init__(self, model: Any, used: torch.Tensor) -> None:
        self.module = model if hasattr(model, "token_embedding") else model.text
        self.full: nn.Embedding = self.module.token_embedding
        self.used = used
        self.module.token_embedding = nn.Embedding.from_pretrained(
            self.full.weight[used].detach(), freeze=False
        )

    def number(self, tokens: torch.Tensor) -> torch.Tensor:
        """Ids of the tokenizer -> rows of the small table."""
        return torch.searchsorted(self.used, tokens)

    def restore(self) -> None:
        """Put the trained rows back into the full table, and the table back into the model."""
        with torch.no_grad():
            self.full.weight[self.used] = self.module.token_embedding.weight.to(self.full.weight)
        self.module.token_embedding = self.full


class Contrast(Task[PairBatch]):
    """open_clip's loss of the images with their captions, and those with phrases."""

    name, section = "CLIP", "clip.training"
    uses_dropout = True

    def __init__(self, embedding: CompactEmbedding, params: ClipTrainingParams, world: World = ALONE) -> None:
        self.heads = nn.Module()
        self.embedding, self.params, self.world = embedding, params, world

    def loss(self, model: Any, batch: PairBatch, step: Step) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss on the pictures of the batch, each changed at random.

        Of several processes, each compares the embeddings of all and has an equal part of the loss.
        """
        images = change_pictures(batch.image_BCHW, self.params, self.draws)
        return batch_loss(model, self.embedding, images, batch, world=self.world) / self.world.size, {}

    def after_step(self, model: Any) -> None:
        """CLIP's clamp of the temperature."""
        with torch.no_grad():
            model.logit_scale.clamp_(0, MOST_LOG_SCALE)


def train_clip(
    model: Any,
    pairs: Pairs,
    params: ClipTrainingParams,
    point: ResumePoint,
    *,
    save_minutes: float,
    world: World = ALONE,
) -> None:
    """Train a model in place, starting at the resume point; leave it on the CPU in evaluation mode.

    Raises:
        UserError: the loss is not finite, the memory of the GPU is too small, or a step has fewer pictures
            than there are processes.
        Stopped: SIGTERM or Ctrl-C came; a resume point was saved.
    """
    if (pictures := min(params.batch_size, len(pairs))) < world.size:
        raise UserError(
            f"a step of clip.training has {pictures} pictures for {world.size} processes; each needs one: "
            "set runtime.processes lower, or clip.training.batch_size higher"
        )
    embedding = CompactEmbedding(model, torch.unique(torch.cat(pairs.tokens)))
    model.to(pick_device())
    speed_up_training(model)
    task = Contrast(embedding, params, world)
    if world.together:
        task.draws = draw_clip_by_image(model)
    Loop(
        model,
        task,
        pairs,
        Optimiser(model, "muon", params.lr, weight_decay=params.weight_decay),
        params=params,
        schedule=CosineRates(params.lr, epochs=params.epochs, warmup_epochs=params.warmup_epochs),
        seed=params.seed,
        resume=point,
        save_minutes=save_minutes,
        world=world,
    ).run()
    embedding.restore()
    model.cpu().eval()


def batch_loss(
    model: Any,
    embedding: CompactEmbedding,
    images: torch.Tensor,
    batch: PairBatch,
    *,
    world: World = ALONE,
) -> torch.Tensor:
    """open_clip's loss of the images with their captions, plus those of images and patches with phrases.

    Of several processes, each gives some of the images, and gets the loss of all. Patches stay where they
    are: only their scores travel.
    """
    texts = [embedding.number(tokens_BC) for tokens_BC in (batch.caption_BC, batch.phrase_BC)]
    image_BE, patch_BGE = image_and_patches(model, images)
    caption_BE, phrase_BE = (text_embedding(model, text) for text in texts)
    image_BE, caption_BE, phrase_BE = (world.gather(x_BE) for x_BE in (image_BE, caption_BE, phrase_BE))
    said_BB = world.gather(batch.said_BB)
    scale, bias = model.logit_scale.exp(), model.logit_bias
    of_texts, of_phrases = (
        (open_clip.ClipLoss(), phrase_loss)
        if bias is None
        else (partial(open_clip.loss.SigLipLoss(), logit_bias=bias), partial(sigmoid_phrase_loss, bias=bias))
    )
    with torch.autocast(images.device.type, enabled=False):
        return (
            of_texts(image_BE, caption_BE, scale)
            + of_phrases(scale * image_BE @ phrase_BE.T, said_BB)
            + of_phrases(scale * world.gather(patch_scores(patch_BGE, phrase_BE)), said_BB)
        )


def patch_scores(patch_BGE: torch.Tensor, phrase_BE: torch.Tensor) -> torch.Tensor:
    """How well the patches of each image (row) show each phrase (column), [images, phrases].

    It is the mean of their cosines, weighted by their similarity to the phrase.
    """
    cosine_BBG = torch.einsum("bge,pe->bpg", patch_BGE, phrase_BE)
    return ((PATCH_SHARPNESS * cosine_BBG).softmax(dim=-1) * cosine_BBG).sum(dim=-1)


def phrase_loss(logits_BB: torch.Tensor, said_BB: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of both directions; phrases in an image's own captions are not its negatives."""
    own_B = torch.arange(len(logits_BB), device=logits_BB.device)
    logits_BB = logits_BB.masked_fill(others_said(said_BB), EXCLUDED)
    return (F.cross_entropy(logits_BB, own_B) + F.cross_entropy(logits_BB.T, own_B)) / 2


def sigmoid_phrase_loss(logits_BB: torch.Tensor, said_BB: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """SigLIP's loss (arXiv 2303.15343, eq. 1) without the phrases that `phrase_loss` leaves out."""
    sign_BB = 2 * torch.eye(len(logits_BB), device=logits_BB.device) - 1
    loss_BB = -F.logsigmoid(sign_BB * (logits_BB + bias)).masked_fill(others_said(said_BB), 0.0)
    return loss_BB.sum() / len(logits_BB)


def others_said(said_BB: torch.Tensor) -> torch.Tensor:
    """Which phrases an image's captions say, but for its own."""
    own_BB = torch.eye(len(said_BB), dtype=torch.bool, device=said_BB.device)
    return said_BB & ~own_BB


@torch.inference_mode()
def retrieval_accuracy(model: Any, pairs: Pairs) -> float:
    """Share of images whose own first caption is the likeliest among the first captions of all images."""
    image_NE = torch.cat(
        [
            model.encode_image(pairs.pictures.tensors(part).float(), normalize=True)
            for part in groups_of(pairs.image_ids, 64)
        ]
    )
    text_NE = model.encode_text(torch.stack([tokens[0] for tokens in pairs.tokens]), normalize=True)
    return ((image_NE @ text_NE.T).argmax(dim=1) == torch.arange(len(pairs))).float().mean().item()
