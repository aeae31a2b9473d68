"""Initialisation of prompts from the patches of their block (SPT: Wang et al., ICML 2024, arXiv 2402.02382).

A random prompt is unlike any token of a trained CLIP, and yet some heads attend to it: the tail's output is
disturbed until training has moved the prompt, and a short training never gets that far. SPT's remedy is to
initialise prompts as prototypes of the patches.

A choice: prototypes are found by K-means (one of SPT's ways) in the patches of some training images; those of
each block come from the output of the blocks below it, without prompts.

Shapes: B images, T tokens = leading ones (a class token, or none) + G patches, M patches of all images,
P prompts per block, W vision width.
"""

import numpy as np
import torch

from fsgr_model.clip.token_cache import read_tokens
from fsgr_model.clip.vit import run_block
from fsgr_model.network.assembly import Assembly
from fsgr_model.network.tuned_tail import TunedTail
from fsgr_model.runtime.errors import UserError
from fsgr_model.training.inputs import SplitInputs
from fsgr_model.training.prototypes import cluster

IMAGES = 64  # 12,544 patches of ViT-B/16, 125 for each of a hundred prompts


@torch.no_grad()
def initialise_prompts_from_patches(assembly: Assembly, train: SplitInputs, seed: int) -> None:
    """Initialise the prompts from training images that the seed picks.

    Raises:
        UserError: the images have fewer patches than a block has prompts.
    """
    tail = assembly.captioner.tail
    assert isinstance(tail, TunedTail) and tail.prompts is not None
    order = np.random.default_rng(seed).permutation(list(train.tokens))
    picked: list[int] = order[:IMAGES].tolist()
    tokens_BTW = read_tokens(train.features, picked, tail.frozen.device).to(tail.frozen.dtype)
    P = tail.prompts.vectors_NPW.shape[1]
    if (patches := tail.frozen.patches(tokens_BTW)[..., 0].numel()) < P:
        raise UserError(
            f"model.tail.prompt_start: patches takes model.tail.prompts, {P}, from the patches of "
            f"{len(picked)} training images, which have {patches}; lower it, or set "
            "model.tail.prompt_start: random"
        )
    blocks = []
    for block in tail.frozen.blocks:
        patch_MW = tail.frozen.patches(tokens_BTW).flatten(0, 1).float().cpu().numpy()
        blocks.append(torch.from_numpy(cluster(patch_MW, P, seed=seed, start_MD=None)))
        tokens_BTW = run_block(block, tokens_BTW)
    tail.prompts.set_prompts(torch.stack(blocks))
