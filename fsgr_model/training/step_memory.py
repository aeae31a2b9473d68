"""How much memory a training step takes, from the shapes; for the dry run and the note before training.

Shapes: T cached tokens per image (of a vision transformer its patches after a class token, or none),
W their width.
"""

import os
from dataclasses import dataclass

import torch
from torch import nn

from fsgr_model.clip.split import Tail
from fsgr_model.network.captioner import Captioner
from fsgr_model.network.tuned_tail import TunedTail

FLOAT32 = 4
GB = 1e9
# Values that are kept for the backward pass, counted with hooks on what autograd saves: for each value that
# enters a frozen block with an adapter, an encoder layer, a decoder layer (and in it, of the image: keys and
# values).
KEPT_FROZEN_BLOCK = 11.5
KEPT_ENCODER_LAYER = 31.0
KEPT_DECODER_LAYER = 22.0
KEPT_IMAGE_IN_DECODER_LAYER = 2.5
# Logits, their log-softmax, and its gradient.
COPIES_OF_LOGITS = 3
# A frozen block at work: the hidden layer of its feed-forward before and after the activation, what goes in.
WORKING_FROZEN_BLOCK = 10
# The features of a batch as they are cached (half as large) and as the network reads them.
COPIES_OF_FEATURES = 1.5
# Gradient, and Adam's two moments, beside the weight.
FURTHER_COPIES_OF_TRAINED = 3


@dataclass(frozen=True)
class StepSize:
    """`images` of the batch, the caption `words` per image, and `tokens` (T, W) as they are cached."""

    images: int
    words: int
    tokens: tuple[int, int]


def step_bytes(captioner: Captioner, size: StepSize) -> int:
    """About the peak of a training step: weights, gradients, Adam's state, and what is kept for them.

    All as float32; bf16 autocast on a GPU makes much of it half as large, so there it is an upper bound.
    It leaves out the losses of `xe.alignment` and `xe.contrast`, and the memory of the libraries themselves.
    """
    weights = sum(weight.numel() for weight in captioner.parameters())
    trained = sum(weight.numel() for weight in captioner.trained_weights().values())
    kept = _tail_values(captioner.tail, size) + _network_values(captioner, size)
    return round(FLOAT32 * (weights + FURTHER_COPIES_OF_TRAINED * trained + kept))


def _tail_values(tail: nn.Module, size: StepSize) -> float:
    """Values of a batch's features and inside CLIP, which are kept where something there is trained."""
    T, W = size.tokens
    features = size.images * T * W
    if isinstance(tail, TunedTail):
        blocks = len(tail.frozen.blocks) + (tail.frozen.align != "plain")
        prompts = tail.prompts.vectors_NPW.shape[1] if tail.prompts else 0
        kept = size.images * (T + prompts) * W * blocks * KEPT_FROZEN_BLOCK
    else:
        kept = features * WORKING_FROZEN_BLOCK if isinstance(tail, Tail) else 0
    return COPIES_OF_FEATURES * features + kept


def _network_values(captioner: Captioner, size: StepSize) -> float:
    encoder_layers, decoder_layers = captioner.encoder.layers, captioner.decoder.layers
    num_words, d_model = captioner.decoder.output.weight.shape
    patch_values = size.images * len(captioner.encoder.position_GD) * d_model
    words = size.images * size.words
    encoder = patch_values * len(encoder_layers) * KEPT_ENCODER_LAYER
    decoder = len(decoder_layers) * (
        words * d_model * KEPT_DECODER_LAYER + patch_values * KEPT_IMAGE_IN_DECODER_LAYER
    )
    return encoder + decoder + words * num_words * COPIES_OF_LOGITS


def device_memory(device: torch.device) -> int:
    """Bytes of a GPU's memory, else of the machine's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def describe_need(name: str, needed: int, *, images: int, device: torch.device) -> str:
    """`XE needs about 11.2 GB at 20 images per step; this GPU has 40.0 GB`"""
    where = "this GPU" if device.type == "cuda" else "this machine"
    there = device_memory(device) / GB
    return f"{name} needs about {needed / GB:.2g} GB at {images} images per step; {where} has {there:.3g} GB"
