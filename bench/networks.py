"""The networks and batches that are measured: random weights and random features, at COCO's sizes.

Speed depends on neither. Shapes: B images, S captions per image, L positions, T = 1 + G tokens, G patches,
W vision width, E joint width, K concepts, V words.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.reference.clip import WholeClip
from fsgr_model.clip.logit_scale import CLIP_SCALE
from fsgr_model.clip.model_building import build_model
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.split import Tail, TailOutput
from fsgr_model.config.model_params import ModelParams, TailParams
from fsgr_model.network.captioner import Captioner
from fsgr_model.text.vocabulary import BOS, EOS, SPECIALS
from fsgr_model.training.batches import Batch, pad_captions

CUT = 6


@dataclass(frozen=True)
class Sizes:
    """What a benchmark is run at; `clip`: an open_clip config."""

    clip: dict[str, Any]
    side: int = 14
    grid_width: int = 512
    joint_width: int = 512
    d_model: int = 512
    num_heads: int = 8
    d_ff: int = 2048
    encoder_layers: int = 2
    decoder_layers: int = 4
    dropout: float = 0.1
    num_words: int = 10_201
    num_concepts: int = 4_585
    top_k: int = 20
    prompts: int = 100
    captions: int = 5
    length: int = 20

    @property
    def outputs_width(self) -> int:
        """Of a frozen tail's outputs side by side."""
        return self.grid_width + self.joint_width

    @property
    def clip_width(self) -> int:
        """Of CLIP's tokens."""
        return self.clip["vision_cfg"]["width"]

    @property
    def image_size(self) -> int:
        """Pixels per side."""
        return self.clip["vision_cfg"]["image_size"]

    def params(self, adapters: bool = False, prompts: int = 0) -> ModelParams:
        """FSGR's network at these sizes."""
        return ModelParams(
            d_model=self.d_model,
            num_heads=self.num_heads,
            d_ff=self.d_ff,
            encoder_layers=self.encoder_layers,
            decoder_layers=self.decoder_layers,
            dropout=self.dropout,
            top_k=self.top_k,
            patch_attention=False,
            tail=TailParams(adapters=adapters, prompts=prompts, prompt_start="random")
            if adapters or prompts
            else None,
        )


COCO = Sizes(open_clip.get_model_config("ViT-B-16"))
# For the test that keeps the benchmarks from rotting: all parts, no work.
TINY = Sizes(
    clip={
        "embed_dim": 12,
        "vision_cfg": {"image_size": 12, "patch_size": 4, "layers": 8, "width": 16, "head_width": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
    },
    side=3,
    grid_width=16,
    joint_width=12,
    d_model=24,
    num_heads=4,
    d_ff=32,
    num_words=60,
    num_concepts=9,
    top_k=3,
    prompts=2,
    captions=2,
    length=6,
)


class GivenOutputs(nn.Module):
    """A frozen tail whose outputs were kept: reads them from one tensor, computes nothing."""

    def __init__(self, width: int, *, joint_width: int) -> None:
        super().__init__()
        self.width, self.joint_width, self.logit_scale = width, joint_width, CLIP_SCALE

    def forward(self, outputs: Tensor) -> TailOutput:
        """[B, 1 + G, W + E]: the image embedding first, then grid and aligned features of each patch."""
        grid_BGW, align_BGE = outputs[:, 1:].split([self.width, self.joint_width], dim=-1)
        return TailOutput(grid_BGW, outputs[:, 0, self.width :], align_BGE)


def captioner_on_outputs(sizes: Sizes, device: torch.device) -> Captioner:
    """The network without CLIP: its batches hold the outputs of a frozen tail."""
    tail = GivenOutputs(sizes.grid_width, joint_width=sizes.joint_width)
    return _captioner(tail, sizes, sizes.params(), device)


def captioner_on_tail(sizes: Sizes, device: torch.device) -> Captioner:
    """The network with adapters and prompts in the blocks of CLIP from the cut on."""
    params = sizes.params(adapters=True, prompts=sizes.prompts)
    return _captioner(Tail(build_model(sizes.clip, "bench"), CUT, params.align), sizes, params, device)


def captioner_on_whole_clip(sizes: Sizes, device: torch.device) -> Captioner:
    """The reference's way: all of CLIP from the pixels on, prompts in every block, adapters from the cut."""
    whole = WholeClip(build_model(sizes.clip, "bench"), cut=CUT, prompts=sizes.prompts, dropout=sizes.dropout)
    return _captioner(whole, sizes, sizes.params(), device)


def _captioner(tail: Any, sizes: Sizes, params: ModelParams, device: torch.device) -> Captioner:
    torch.manual_seed(0)
    codebook_KE, word_VE = (
        F.normalize(torch.randn(rows, sizes.joint_width), dim=-1)
        for rows in (sizes.num_concepts, sizes.num_words)
    )
    return Captioner(tail, sizes.side, codebook_KE, word_VE, params=params).to(device)


def random_batch(sizes: Sizes, images: int, *, token_width: int, device: torch.device) -> Batch:
    """A batch of random features [B, T, token_width] and captions, float32 and on the device."""
    generator = torch.Generator().manual_seed(1)
    tokens_BTW = torch.randn(images, 1 + sizes.side**2, token_width, generator=generator)
    caption_BSL = pad_captions(random_captions(sizes, images))
    return Batch(list(range(images)), tokens_BTW.half(), caption_BSL).to(device)


def random_captions(sizes: Sizes, images: int) -> list[list[list[int]]]:
    """Captions of each image as word ids, <bos> to <eos>, as long as COCO's: 10.5 words, deviation 2.4."""
    return [_captions_of_image(sizes, np.random.default_rng([1, image])) for image in range(images)]


def _captions_of_image(sizes: Sizes, generator: np.random.Generator) -> list[list[int]]:
    lengths = generator.normal(10.5, 2.4, sizes.captions).round().clip(5, sizes.length - 1).astype(int)
    words = (generator.integers(len(SPECIALS), sizes.num_words, length).tolist() for length in lengths)
    return [[BOS, *of_caption, EOS] for of_caption in words]
