"""A small CLIP of each kind of vision tower that open_clip knows, with random weights."""

from typing import Any

import torch
from torch import nn

from fsgr_model.clip.model_building import build_model

OWN_TEXT = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
SIGLIP_TEXT = {
    **OWN_TEXT,
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
}
EVA = {"img_size": 32, "patch_size": 8, "depth": 3}
ROPE = {"ref_feat_shape": [4, 4]}


def timm_config(name: str, arguments: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """A tower of timm for pictures of 32 px, or as `settings` say, and a text tower of one block."""
    text = settings.pop("text_cfg", OWN_TEXT)
    vision = {
        "timm_model_name": name,
        "timm_model_args": arguments,
        "image_size": 32,
        "timm_pool": "",
        "timm_proj": "linear",
        **settings,
    }
    return {"embed_dim": 16, "custom_text": True, "vision_cfg": vision, "text_cfg": text}


def map_pool(name: str, arguments: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """With SigLIP's attention pool and no projection behind it: the joint width is the tower's."""
    config = timm_config(name, arguments, timm_pool="map", timm_proj="none", text_cfg=SIGLIP_TEXT, **settings)
    return {**config, "embed_dim": arguments["embed_dim"], "init_logit_bias": -10}


CONVNEXT = {"depths": [1, 1, 2, 1], "dims": [8, 8, 16, 24]}
# Where a stage has attention, its heads have 32 channels.
FASTVIT = {"layers": [1, 1, 1, 1], "embed_dims": [8, 16, 16, 32]}
COCA = {
    "embed_dim": 16,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 32,
        "patch_size": 8,
        "width": 32,
        "head_width": 16,
        "layers": 3,
        "attentional_pool": True,
        "attn_pooler_heads": 2,
        "attn_pooler_queries": 5,
        "output_tokens": True,
    },
    "text_cfg": {**OWN_TEXT, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "open_clip, CoCa": COCA,
    "timm, attention pool (SigLIP)": map_pool(
        "vit_base_patch16_siglip_224",
        {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2},
    ),
    "timm, class token (MobileCLIP-B)": timm_config(
        "vit_base_patch16_clip_224",
        {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2},
        timm_pool="token",
        timm_proj=None,
    ),
    "timm, mean, norm behind it": timm_config(
        "vit_medium_patch16_gap_256",
        {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2},
    ),
    "timm, ViTamin": timm_config("vitamin_small_224", {"img_size": 64, "depth": 2}, image_size=64),
    "timm, hybrid stem (MobileCLIP-B)": timm_config(
        "vit_base_mci_224",
        {"img_size": 64, "depth": 2, "num_heads": 2},
        image_size=64,
        timm_pool="token",
        timm_proj=None,
    ),
    "timm, EVA": timm_config(
        "eva_giant_patch14_224",
        {**EVA, "embed_dim": 32, "num_heads": 2},
        timm_pool="token",
        timm_proj=None,
    ),
    "timm, EVA-02": timm_config(
        "eva02_base_patch16_clip_224",
        {**EVA, **ROPE, "embed_dim": 32, "num_heads": 2},
        timm_pool="token",
        timm_proj=None,
    ),
    "timm, EVA-02, norms behind": timm_config(
        "eva02_enormous_patch14_clip_224",
        {**EVA, "embed_dim": 32, "num_heads": 2},
        timm_pool="token",
        timm_proj=None,
    ),
    "timm, PE-Core": timm_config(
        "vit_pe_core_tiny_patch16_384",
        {**EVA, **ROPE, "embed_dim": 32, "num_heads": 2, "attn_pool_num_heads": 2},
        timm_pool="map",
        timm_proj=None,
    ),
}
STAGED: dict[str, dict[str, Any]] = {
    "timm, ConvNeXt": timm_config("convnext_tiny", CONVNEXT, image_size=64),
    "timm, ConvNeXt, two layers behind": timm_config(
        "convnext_tiny", CONVNEXT, image_size=64, timm_proj="mlp"
    ),
    "timm, FastViT": timm_config("fastvit_mci0", FASTVIT, image_size=64, timm_pool="avg", timm_proj=None),
    "timm, FastViT in five stages": timm_config(
        "fastvit_mci3",
        {"layers": [1, 1, 1, 1, 1], "embed_dims": [8, 8, 16, 32, 32]},
        image_size=128,
        timm_pool="avg",
        timm_proj=None,
    ),
    "timm, Swin": timm_config(
        "swin_base_patch4_window7_224",
        {"img_size": 64, "window_size": 2, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]},
        image_size=64,
    ),
}
ALL = TRANSFORMERS | STAGED


def small_tower(kind: str) -> nn.Module:
    """A model of the kind in evaluation mode."""
    torch.manual_seed(4)
    return with_weights_that_matter(build_model(ALL[kind], kind)).eval()


def with_weights_that_matter(model: nn.Module) -> nn.Module:
    """The model with all weights drawn anew: many begin so near zero that a fault would not show."""
    for name, weight in model.named_parameters():
        if weight.dim() >= 2:
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
        elif "logit" not in name:
            nn.init.normal_(weight, float(name.endswith("weight") or "gamma" in name), std=0.3)
    return model


def images_for(kind: str, count: int = 2) -> torch.Tensor:
    """Float32 images of noise, in the kind's size."""
    side = ALL[kind]["vision_cfg"]["image_size"]
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(5))
