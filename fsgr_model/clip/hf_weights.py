"""Weights of a CLIP of the library transformers, under open_clip's names.

Shapes: W width of a tower, E joint width.
"""

import re
from typing import Any

import torch

from fsgr_model.clip.weight_files import Weights

OUTSIDE_BLOCKS = {
    "logit_scale": "logit_scale",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "text_projection.weight": "text_projection",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "visual_projection.weight": "visual.proj",
}
# open_clip multiplies by these from the right.
TRANSPOSED = ("text_projection", "visual.proj")
TOWERS = {"text_model": "transformer", "vision_model": "visual.transformer"}
IN_BLOCKS = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
BLOCK = re.compile(r"(text_model|vision_model)\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
# Position indices that older files contain next to the position embeddings.
COUNTS = re.compile(r"(text_model|vision_model)\.embeddings\.position_ids")


def open_clip_names(weights: Weights) -> Weights:
    """The same weights under open_clip's names; unknown ones keep their names, and loading refuses them.

    Raises:
        KeyError: a block has queries but no keys or values.
    """
    renamed: Weights = {}
    for name, value in weights.items():
        block = BLOCK.fullmatch(name)
        if COUNTS.fullmatch(name):
            continue
        if block is None:
            new = OUTSIDE_BLOCKS.get(name, name)
            renamed[new] = value.T if new in TRANSPOSED else value
            continue
        tower, number, part, kind = block.groups()
        place = f"{TOWERS[tower]}.resblocks.{number}"
        if part in IN_BLOCKS:
            renamed[f"{place}.{IN_BLOCKS[part]}.{kind}"] = value
        elif part == "self_attn.q_proj":
            parts = [weights[name.replace("q_proj", f"{each}_proj")] for each in "qkv"]
            renamed[f"{place}.attn.in_proj_{kind}"] = torch.cat(parts)
        elif part not in ("self_attn.k_proj", "self_attn.v_proj"):
            renamed[name] = value
    return renamed


def sizes(weights: Weights) -> dict[str, Any]:
    """The part of open_clip's config that the shapes of the weights determine: all but heads and activation.

    Raises:
        KeyError: the weights lack a part of CLIP.
    """
    patch_W3PP = weights["vision_model.embeddings.patch_embedding.weight"]
    patch, grid = patch_W3PP.shape[-1], _grid_side(weights)
    vocabulary, text_width = weights["text_model.embeddings.token_embedding.weight"].shape
    vision_width = patch_W3PP.shape[0]
    return {
        "embed_dim": weights["visual_projection.weight"].shape[0],
        "vision_cfg": {
            "image_size": grid * patch,
            "patch_size": patch,
            "width": vision_width,
            "layers": _layers(weights, "vision_model"),
            "mlp_ratio": weights["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0] / vision_width,
        },
        "text_cfg": {
            "context_length": weights["text_model.embeddings.position_embedding.weight"].shape[0],
            "vocab_size": vocabulary,
            "width": text_width,
            "layers": _layers(weights, "text_model"),
            "mlp_ratio": weights["text_model.encoder.layers.0.mlp.fc1.weight"].shape[0] / text_width,
        },
    }


def _grid_side(weights: Weights) -> int:
    return round((weights["vision_model.embeddings.position_embedding.weight"].shape[0] - 1) ** 0.5)


def _layers(weights: Weights, tower: str) -> int:
    return len({found[2] for name in weights if (found := BLOCK.fullmatch(name)) and found[1] == tower})
