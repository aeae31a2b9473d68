"""A small CLIP trained from scratch by contrast of images and captions (CLIP, arXiv 2103.00020).

For data sets of some thousand images: the training split, its captions, nothing else.
Shapes: N images, B pairs a step, C context length, V tokens in use.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fsgr_model.artifacts import fingerprint
from fsgr_model.clip.image_reading import Preprocess, check_files, read_batches
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.datasets.normal_form import Split, read_captions, read_images
from fsgr_model.device import autocast, pick_device
from fsgr_model.errors import UserError
from fsgr_model.params import ClipTrainingParams, RuntimeParams
from fsgr_model.progress import progress
from fsgr_model.training.resume import ResumePoint, resume_point

Tokenizer = Callable[[list[str]], torch.Tensor]
# CLIP's clamp of the temperature (arXiv 2103.00020, section 2.5).
MOST_LOGIT_SCALE = math.log(100)


class Pairs:
    """Images [N, 3, H, W] float16 and, for each, token ids [captions, C] of its captions."""

    def __init__(
        self,
        dataset: Path,
        split: Split,
        preprocess: Preprocess,
        tokenizer: Tokenizer,
        runtime: RuntimeParams,
    ) -> None:
        records = read_images(dataset, split)
        check_files(records)
        captions = read_captions(dataset)
        batches = read_batches(records, preprocess, runtime.image_batch, runtime.workers)
        total = math.ceil(len(records) / runtime.image_batch)
        shown = progress(batches, total, f"images of {split}", "batches")
        self.images = torch.cat([images.half() for _, images in shown])
        self.tokens = [tokenizer([c.text for c in captions[record.image_id]]) for record in records]
        self.key = fingerprint([[r.sha256, [c.text for c in captions[r.image_id]]] for r in records])

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, size: int, seed: int, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Indices and caption ids [B, C] of each step of an epoch: a function of seed and epoch only.

        Every image comes once, with one of its captions; an incomplete last batch is left out.
        """
        draw = np.random.default_rng([seed, epoch])
        order = draw.permutation(len(self))
        chosen = torch.stack([self.tokens[i][draw.integers(len(self.tokens[i]))] for i in order])
        size = min(size, len(self))
        ends = range(size, len(self) + 1, size)
        return [(torch.from_numpy(order[end - size : end]), chosen[end - size : end]) for end in ends]


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


def train_clip(model: Any, pairs: Pairs, params: ClipTrainingParams, seed: int, key: str) -> None:
    """Train `model` in place with open_clip's contrastive loss; go on after the last epoch that was saved.

    Args:
        key: fingerprint of everything that the result depends on.

    Raises:
        UserError: the loss is not finite; or another process trains the same model.
    """
    device = pick_device()
    embedding = CompactEmbedding(model, torch.unique(torch.cat(pairs.tokens)))
    model.train().to(device)
    optimiser = make_optimiser(model, params)
    with resume_point("clip", key) as point:
        first = _restore(point, model, optimiser)
        epochs = range(first, params.epochs)
        for epoch in progress(epochs, params.epochs, "training CLIP", "epochs", done=first):
            loss = _train_epoch(model, pairs, embedding, optimiser, params, seed, epoch)
            print(f"training CLIP: epoch {epoch + 1}: loss {loss:.3f}", flush=True)
            _save(point, model, optimiser, epoch + 1)
        point.forget()
    embedding.restore()
    model.cpu().eval()


def make_optimiser(model: nn.Module, params: ClipTrainingParams) -> torch.optim.AdamW:
    """AdamW as CLIP's: matrices decay, gains, biases and the temperature do not."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": params.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=params.lr, betas=(0.9, 0.98), fused=True)


def _train_epoch(
    model: Any,
    pairs: Pairs,
    embedding: CompactEmbedding,
    optimiser: torch.optim.AdamW,
    params: ClipTrainingParams,
    seed: int,
    epoch: int,
) -> float:
    """One pass; the mean loss. All it draws depends on seed and epoch only: a resumed run is the same."""
    torch.manual_seed(seed * 1_000_003 + epoch)
    batches = pairs.batches(params.batch_size, seed, epoch)
    warmup = round(params.warmup_epochs * len(batches))
    total = 0.0
    for index, (rows, tokens_BC) in enumerate(batches):
        step = epoch * len(batches) + index
        rate = learning_rate(step, params.epochs * len(batches), warmup, params.lr)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = contrastive_loss(model, pairs.images[rows], embedding.number(tokens_BC))
        if not torch.isfinite(loss):
            raise UserError(
                f"training CLIP: the loss is {loss.item()} at step {step}, learning rate {rate:.2g}; "
                "lower clip.training.lr"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, MOST_LOGIT_SCALE)
        total += loss.item()
    return total / len(batches)


def contrastive_loss(model: Any, images: torch.Tensor, tokens_BC: torch.Tensor) -> torch.Tensor:
    """open_clip's loss of B images and their captions."""
    device = model.logit_scale.device
    with autocast(device):
        image_BE = model.encode_image(images.to(device).float(), normalize=True)
        text_BE = model.encode_text(tokens_BC.to(device), normalize=True)
    return open_clip.ClipLoss()(image_BE.float(), text_BE.float(), model.logit_scale.exp())


def _save(point: ResumePoint, model: nn.Module, optimiser: torch.optim.AdamW, epochs: int) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    point.save({name: value.detach().contiguous() for name, value in tensors.items()}, {"epochs": epochs})


def _restore(point: ResumePoint, model: nn.Module, optimiser: torch.optim.AdamW) -> int:
    """Load what was saved, if anything; the number of epochs that are done."""
    saved = point.load()
    if saved is None:
        return 0
    tensors, position = saved
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, index, field = name.split(".")
            state.setdefault(int(index), {})[field] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return position["epochs"]


@torch.inference_mode()
def retrieval_accuracy(model: Any, pairs: Pairs) -> float:
    """Share of images whose own first caption is the likeliest among the first captions of all images."""
    image_NE = torch.cat(
        [model.encode_image(part.float(), normalize=True) for part in pairs.images.split(64)]
    )
    text_NE = model.encode_text(torch.stack([tokens[0] for tokens in pairs.tokens]), normalize=True)
    return ((image_NE @ text_NE.T).argmax(dim=1) == torch.arange(len(pairs))).float().mean().item()
