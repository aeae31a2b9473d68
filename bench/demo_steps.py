"""A step of each stage that computes, at the demo's sizes and as the stage runs it; all input is random.

Shapes: B images, C context length of CLIP's text tower.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from bench.networks import Sizes, random_batch
from bench.scst_step import reward_of_random_captions
from bench.steps import training_step
from bench.timing import Work
from fsgr_model.clip.loading import build_model
from fsgr_model.clip.split import Tail
from fsgr_model.clip.towers import make_trunk
from fsgr_model.config.params import Params
from fsgr_model.inference.captioning import search
from fsgr_model.kernels.inference import speed_up_inference
from fsgr_model.kernels.training import speed_up_training
from fsgr_model.network.captioner import Captioner
from fsgr_model.training.clip_pairs import PairBatch
from fsgr_model.training.clip_training import CompactEmbedding, Contrast
from fsgr_model.training.optimiser import Optimiser
from fsgr_model.training.scst import SelfCritical
from fsgr_model.training.task import Step
from fsgr_model.training.xe import CrossEntropy

CPU = torch.device("cpu")
CONCEPTS, WORDS, CAPTION_LENGTH = 24, 186, 12


def works(params: Params) -> dict[str, Callable[[], Work]]:
    """What makes a step of each stage, by the stage's name."""
    sizes = demo_sizes(params)
    task = partial(SelfCritical, num_samples=params.scst.samples, max_length=params.scst.max_length)
    return {
        "clip": partial(clip_step, sizes, params),
        "features": partial(trunk_pass, sizes, params),
        "train_xe": lambda: caption_step(CrossEntropy(), sizes, params, images=params.xe.batch_size),
        "train_scst": lambda: caption_step(
            task(reward_of_random_captions(sizes)), sizes, params, images=params.scst.batch_size
        ),
        "captions": partial(beam_pass, sizes, params),
    }


def demo_sizes(params: Params) -> Sizes:
    """The sizes that the demo's parameter file and its CLIP give."""
    clip = json.loads(Path(params.clip.model).read_text(encoding="utf-8"))
    vision = clip["vision_cfg"]
    return Sizes(
        clip=clip,
        side=vision["image_size"] // vision["patch_size"],
        grid_width=vision["width"],
        joint_width=clip["embed_dim"],
        num_words=WORDS,
        num_concepts=CONCEPTS,
        length=CAPTION_LENGTH,
    )


def clip_step(sizes: Sizes, params: Params) -> Work:
    """A step of CLIP's training on random pictures and texts."""
    training = params.clip.training
    assert training is not None, "the demo trains its CLIP"
    model = build_model(sizes.clip, "bench")
    batch = random_pairs(sizes, training.batch_size)
    embedding = CompactEmbedding(model, torch.unique(torch.cat([batch.caption_BC, batch.phrase_BC])))
    speed_up_training(model)
    task, optimiser = (
        Contrast(embedding, training),
        Optimiser(model, "muon", 1e-9, weight_decay=training.weight_decay),
    )

    def step() -> None:
        model.train()
        task.loss(model, batch.to(CPU), Step(0, 1, 0))[0].backward()
        optimiser.gradient_norm().item()
        optimiser.step()

    return step


def random_pairs(sizes: Sizes, images: int) -> PairBatch:
    """Random pictures, captions of ten tokens and phrases of two."""
    side, context = sizes.image_size, sizes.clip["text_cfg"]["context_length"]
    words_BC = torch.randint(1, WORDS, (images, context))
    end = sizes.clip["text_cfg"]["vocab_size"] - 1
    texts = []
    for length in (10, 2):
        texts.append(words_BC.clone())
        texts[-1][:, length + 1] = end
        texts[-1][:, length + 2 :] = 0
    pictures = torch.randn(images, 3, side, side).half()
    own_BB = torch.eye(images, dtype=torch.bool)
    return PairBatch(list(range(images)), pictures, texts[0], texts[1], own_BB)


def trunk_pass(sizes: Sizes, params: Params) -> Work:
    """A batch of pictures through the frozen trunk."""
    trunk = make_trunk(build_model(sizes.clip, "bench"), params.clip.cut)
    speed_up_inference(trunk)
    images = torch.randn(params.runtime.image_batch, 3, sizes.image_size, sizes.image_size)

    @torch.inference_mode()
    def run() -> None:
        trunk(images)

    return run


def caption_step(task: CrossEntropy | SelfCritical, sizes: Sizes, params: Params, *, images: int) -> Work:
    """A step of the captioner's training."""
    model = demo_captioner(sizes, params)
    speed_up_training(model)
    return training_step(
        task, random_batch(sizes, images, token_width=sizes.clip_width, device=CPU), model, torch.float32
    )


def beam_pass(sizes: Sizes, params: Params) -> Work:
    """A batch of pictures captioned by beam search."""
    model = demo_captioner(sizes, params)
    speed_up_inference(model)
    tokens_BTW = random_batch(
        sizes, params.runtime.caption_batch, token_width=sizes.clip_width, device=CPU
    ).tokens_BTW
    return lambda: search(model, tokens_BTW, params.decode, params.precision)


def demo_captioner(sizes: Sizes, params: Params) -> Captioner:
    """The demo's network with random weights."""
    torch.manual_seed(0)
    tail = Tail(build_model(sizes.clip, "bench"), params.clip.cut, params.model.align)
    rows = (sizes.num_concepts, sizes.num_words)
    codebook_KE, word_VE = (torch.randn(count, sizes.joint_width) for count in rows)
    return Captioner(tail, sizes.side, codebook_KE, word_VE, params=params.model)
