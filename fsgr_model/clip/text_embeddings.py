"""Embeddings of words and concepts in CLIP's joint space, averaged over prompts.

Shapes: N texts, P templates, X = N * P prompts with a text in them, E joint width.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from fsgr_model.clip.loading import Clip
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.text_tower import text_embedding

TEXTS_PER_STEP = 256
# MaskCLIP (arXiv 2112.01071) adds five forms that place the object in a scene.
IN_THE_SCENE = (
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)
SCENE = ("a {}", "the {}", "{}", "there is a {}", "a picture of a {}", "a scene with a {}")
CHINESE = ("{}", "一个{}", "有{}", "{}的照片", "画面里有{}", "图中的{}")


def templates(name: str) -> list[str]:
    """Prompts by name; `{}` stands for the concept. `imagenet` has the 85 of MaskCLIP."""
    if name == "imagenet":
        imagenet = open_clip.zero_shot_metadata.OPENAI_IMAGENET_TEMPLATES
        return [template("{}") for template in imagenet] + list(IN_THE_SCENE)
    return {"simple": ["a photo of a {}."], "scene": list(SCENE), "chinese": list(CHINESE), "word": ["{}"]}[
        name
    ]


@torch.inference_mode()
def embed_texts(clip: Clip, texts: Sequence[str], prompts: Sequence[str]) -> torch.Tensor:
    """Unit rows [N, E] float32 on the CPU: each prompt's embedding is normalised, then their mean is.

    Texts go through in small groups with all of their prompts, so thousands of concepts take no more memory
    than ten.
    """
    step = max(1, TEXTS_PER_STEP // len(prompts))
    parts = [_embed(clip, texts[start : start + step], prompts) for start in range(0, len(texts), step)]
    return torch.cat(parts)


def _embed(clip: Clip, texts: Sequence[str], prompts: Sequence[str]) -> torch.Tensor:
    filled = [prompt.replace("{}", text) for text in texts for prompt in prompts]
    each_XE = text_embedding(clip.model, clip.tokenizer(filled))
    mean_NE = each_XE.unflatten(0, (len(texts), len(prompts))).mean(dim=1)
    return F.normalize(mean_NE, dim=-1).cpu()
