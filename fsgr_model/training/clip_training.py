"""A small CLIP trained from scratch, for data sets of some thousand images: the training split, nothing else.

open_clip's contrastive loss (CLIP, arXiv 2103.00020) compares the images with their captions. A second one
compares them with short phrases cut from the captions, and a third the patches most like a phrase (as GLoRIA,
Huang et al., ICCV 2021, compares words). A phrase often names one thing only; so nouns get a meaning of their
own, and label maps, which ask for single nouns, find their objects.
Shapes: N images, B pairs a step, G patches, C context length, E joint width, W vision width.
"""

import math
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.split import run_blocks
from fsgr_model.clip.text_tower import text_embedding
from fsgr_model.config.params import ClipTrainingParams
from fsgr_model.kernels.install import speed_up_training
from fsgr_model.runtime.device import autocast, pick_device
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.gpu_memory import told_what_fits
from fsgr_model.runtime.progress import progress
from fsgr_model.runtime.resume import ResumePoint
from fsgr_model.runtime.stopping import Overdue, Stopped, StopRequest, stop_request
from fsgr_model.training.clip_pairs import Pairs, Step
from fsgr_model.training.optimiser import Optimiser

# CLIP's clamp of the temperature (arXiv 2103.00020, section 2.5).
MOST_LOGIT_SCALE = math.log(100)
# Cosines times this, through a softmax, weigh the patches for a phrase: those most like it count.
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


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """Linear warm-up over `warmup` steps, then half a cosine to zero at `steps`; `step` counts from 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@dataclass
class Position:
    """The next step: `epoch` and `step` count from 0; `total` is the sum of the epoch's losses so far."""

    epoch: int = 0
    step: int = 0
    total: float = 0.0


class ClipTraining:
    """Trains a model in place with open_clip's contrastive loss; goes on where its resume point stands."""

    def __init__(
        self,
        model: Any,
        pairs: Pairs,
        params: ClipTrainingParams,
        point: ResumePoint,
        save_minutes: float,
    ) -> None:
        self.device = pick_device()
        self.embedding = CompactEmbedding(model, torch.unique(torch.cat(pairs.tokens)))
        self.model = model.train().to(self.device)
        speed_up_training(self.model)
        self.optimiser = Optimiser(model, "muon", params.lr, params.weight_decay)
        self.pairs, self.params, self.point = pairs, params, point
        self.save_seconds = 60 * save_minutes
        self.position = Position()

    def run(self) -> None:
        """Train to the last epoch, and leave the model on the CPU in evaluation mode.

        Raises:
            UserError: the loss is not finite, or the memory of the GPU is too small.
            Stopped: SIGTERM or Ctrl-C came; a resume point was saved.
        """
        self._restore()
        with stop_request() as stop:
            try:
                first, epochs = self.position.epoch, self.params.epochs
                for _ in progress(range(first, epochs), epochs, "training CLIP", "epochs", done=first):
                    self._train_epoch(stop)
            except Overdue:
                raise
            except Stopped as stopped:
                self._save()
                place = f"epoch {self.position.epoch + 1}/{self.params.epochs}, step {self.position.step}"
                stopped.kept = f"saved training CLIP {place} in {self.point.folder}"
                raise
        self.embedding.restore()
        self.model.cpu().eval()

    def _train_epoch(self, stop: StopRequest) -> None:
        """The rest of an epoch. All it draws depends on seed and epoch only: a resumed run is the same."""
        now = self.position
        if now.step == 0:
            torch.manual_seed(self.params.seed * 1_000_003 + now.epoch)
        steps = self.pairs.batches(self.params.batch_size, self.params.seed, now.epoch)
        saved_at = time.monotonic()
        for batch in steps[now.step :]:
            fitting = told_what_fits(
                partial(self._try_images, batch), len(batch.rows_B), "clip.training.batch_size"
            )
            with stop.held_back(), fitting:
                self._train_step(batch, len(steps))
            if time.monotonic() - saved_at > self.save_seconds:
                self._save()
                saved_at = time.monotonic()
        with stop.held_back():
            print(f"training CLIP: epoch {now.epoch + 1}: loss {now.total / len(steps):.3f}", flush=True)
            self.position = Position(now.epoch + 1)
            self._save()

    def _train_step(self, batch: Step, steps: int) -> None:
        now, params = self.position, self.params
        step = now.epoch * steps + now.step
        warmup = round(params.warmup_epochs * steps)
        rate = learning_rate(step, params.epochs * steps, warmup, params.lr)
        self.optimiser.set_rate(rate)
        images = move(self.pairs.images[batch.rows_B].float(), params.shift)
        loss = batch_loss(self.model, self.embedding, drop_colours(images, params.gray_scale_prob), batch)
        if not torch.isfinite(loss):
            raise UserError(
                f"training CLIP: the loss is {loss.item()} at step {step}, learning rate {rate:.2g}; "
                "lower clip.training.lr"
            )
        loss.backward()
        self.optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, MOST_LOGIT_SCALE)
        now.step += 1
        now.total += loss.item()

    def _try_images(self, batch: Step, images: int) -> None:
        """Forward and backward of the first images of a batch, only to see whether the memory holds them."""
        rows_B, captions_BC, phrases_BC, said_BB = (rows[:images] for rows in batch)
        part = Step(rows_B, captions_BC, phrases_BC, said_BB[:, :images])
        self.optimiser.clear_gradients()
        batch_loss(self.model, self.embedding, self.pairs.images[part.rows_B].float(), part).backward()
        self.optimiser.clear_gradients()

    def _save(self) -> None:
        state = self.model.state_dict()
        tensors = {f"model.{name}": value.detach().contiguous() for name, value in state.items()}
        self.point.save(tensors | self.optimiser.tensors() | random_state(self.device), asdict(self.position))

    def _restore(self) -> None:
        saved = self.point.load()
        if saved is None:
            return
        tensors, position = saved
        self.position = Position(**position)
        weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        self.model.load_state_dict(weights)
        self.optimiser.load(tensors)
        set_random_state(self.device, tensors)
        print(f"going on after epoch {self.position.epoch}, step {self.position.step}", flush=True)


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of PyTorch's generators of the CPU and of `device`, as named tensors for a resume point."""
    states = {"random.cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states["random.device"] = torch.get_device_module(device).get_rng_state()
    return states


def set_random_state(device: torch.device, tensors: dict[str, torch.Tensor]) -> None:
    """Take over what `random_state` gave; names of other things are passed over."""
    torch.set_rng_state(tensors["random.cpu"])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(tensors["random.device"])


def move(images: torch.Tensor, shift: float) -> torch.Tensor:
    """Each picture moved by up to `shift` of its side, at random; its border fills the gap."""
    most = round(shift * images.shape[-1])
    height, width = images.shape[-2:]
    padded = F.pad(images, (most,) * 4, mode="replicate")
    corners = torch.randint(2 * most + 1, (len(images), 2)).tolist()
    return torch.stack(
        [p[:, y : y + height, x : x + width] for p, (y, x) in zip(padded, corners, strict=True)]
    )


def drop_colours(images: torch.Tensor, chance: float) -> torch.Tensor:
    """Each picture turned grey with probability `chance` (open_clip's `gray_scale_prob`): a thing that was
    never seen in some colour is then still known by its shape.
    """
    if chance == 0:
        return images
    grey = torch.rand(len(images), 1, 1, 1) < chance
    return torch.where(grey, images.mean(dim=1, keepdim=True), images)


def batch_loss(model: Any, embedding: CompactEmbedding, images: torch.Tensor, batch: Step) -> torch.Tensor:
    """open_clip's loss of the images with their captions, plus those of images and patches with phrases."""
    device = model.logit_scale.device
    texts = [embedding.number(tokens_BC) for tokens_BC in (batch.captions_BC, batch.phrases_BC)]
    with autocast(device):
        image_BE, patch_BGE = image_and_patches(model.visual, images.to(device))
        caption_BE, phrase_BE = (text_embedding(model, text) for text in texts)
    scale, said_BB = model.logit_scale.exp(), batch.said_BB.to(device)
    return (
        open_clip.ClipLoss()(image_BE, caption_BE, scale)
        + phrase_loss(scale * image_BE @ phrase_BE.T, said_BB)
        + phrase_loss(scale * patch_scores(patch_BGE, phrase_BE), said_BB)
    )


def image_and_patches(visual: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`encode_image`'s embedding [B, E], and the patches in the same space [B, G, E]; float32, unit rows."""
    pooled_BW, patch_BGW = visual._pool(run_blocks(visual.transformer.resblocks, visual._embeds(images)))
    if visual.final_ln_after_pool:
        patch_BGW = visual.ln_post(patch_BGW)
    image_BE, patch_BGE = pooled_BW @ visual.proj, patch_BGW @ visual.proj
    return F.normalize(image_BE.float(), dim=-1), F.normalize(patch_BGE.float(), dim=-1)


def patch_scores(patch_BGE: torch.Tensor, phrase_BE: torch.Tensor) -> torch.Tensor:
    """How well the patches of each image (row) show each phrase (column), [B, B].

    The mean of their cosines, weighted by how like the phrase they are.
    """
    cosine_BBG = torch.einsum("bge,pe->bpg", patch_BGE, phrase_BE)
    return ((PATCH_SHARPNESS * cosine_BBG).softmax(dim=-1) * cosine_BBG).sum(dim=-1)


def phrase_loss(logits_BB: torch.Tensor, said_BB: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of both directions; no negative is a phrase that the image's own captions say."""
    own_B = torch.arange(len(logits_BB), device=logits_BB.device)
    others_BB = said_BB & (own_B[:, None] != own_B)
    logits_BB = logits_BB.masked_fill(others_BB, EXCLUDED)
    return (F.cross_entropy(logits_BB, own_B) + F.cross_entropy(logits_BB.T, own_B)) / 2


@torch.inference_mode()
def retrieval_accuracy(model: Any, pairs: Pairs) -> float:
    """Share of images whose own first caption is the likeliest among the first captions of all images."""
    image_NE = torch.cat(
        [model.encode_image(part.float(), normalize=True) for part in pairs.images.split(64)]
    )
    text_NE = model.encode_text(torch.stack([tokens[0] for tokens in pairs.tokens]), normalize=True)
    return ((image_NE @ text_NE.T).argmax(dim=1) == torch.arange(len(pairs))).float().mean().item()
