"""Models, tokenizers and preprocessing of open_clip from its config.

A config may have one key of ours: `vision_cfg.timm_model_args` changes the sizes of timm's architecture.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import torch
from PIL import Image
from torch import nn

from fsgr_model.clip.open_clip_api import TRANSFORMERS, import_timm, import_transformers, open_clip
from fsgr_model.clip.pixels import NormalisedPixels
from fsgr_model.runtime.artifacts import fingerprint
from fsgr_model.runtime.errors import UserError

Config = dict[str, Any]
Tokenizer = Callable[[list[str]], torch.Tensor]
VARIANT = "timm_model_args"


def build_model(config: Config, name: str) -> nn.Module:
    """A randomly initialised open_clip model in float32.

    Raises:
        UserError: the config is not one of open_clip's, or a library or a file that it needs is missing.
    """
    arguments = deepcopy(config)
    vision, text = arguments.get("vision_cfg", {}), arguments.get("text_cfg", {})
    custom = arguments.pop("custom_text", False) or "hf_model_name" in text
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
        vision["timm_model_name"] = _timm_name(vision["timm_model_name"], vision.pop(VARIANT, {}))
    if "hf_model_name" in text:
        import_transformers(f"the text tower of clip.model {name}")
        text["hf_model_pretrained"] = False
    model_class = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    try:
        return (open_clip.CoCa if "multimodal_cfg" in arguments else model_class)(**arguments)
    except (TypeError, AssertionError) as error:
        raise UserError(f"clip.model {name} is not a valid open_clip config: {error}") from None
    except OSError as error:
        raise _not_found("hf_model_name", text.get("hf_model_name"), error) from None


def build_tokenizer(config: Config) -> Tokenizer:
    """The model's tokenizer, open_clip's own or one of transformers: texts -> int64 [N, context_length].

    Raises:
        UserError: transformers is not installed, or the tokenizer's files are not to be had.
    """
    text = config["text_cfg"]
    arguments = {"context_length": text.get("context_length", 77), **(text.get("tokenizer_kwargs") or {})}
    name = text.get("hf_tokenizer_name")
    if not name:
        return open_clip.SimpleTokenizer(**arguments)
    import_transformers(f"the tokenizer {name}")
    try:
        return read_tokenizer(name, tokenizer_mode=text.get("tokenizer_mode"), **arguments)
    except (OSError, ValueError) as error:
        raise _not_found("hf_tokenizer_name", name, error) from None


def read_tokenizer(name: str, **arguments: Any) -> Any:
    """open_clip's adapter around a tokenizer of transformers.

    Where the vocabulary is missing transformers makes a tokenizer without words, which reads every text as
    unknown, and does not say so (findings/transformers_empty_tokenizer.sh). T5's has one token more then.

    Raises:
        UserError: a package is missing.
        OSError, ValueError: the files are not to be had.
    """
    try:
        adapter = open_clip.tokenizer.HFTokenizer(name, **arguments)
    except (ImportError, ValueError) as error:
        # Without sentencepiece, transformers may ask for tiktoken instead, which cannot read such files.
        if isinstance(error, ImportError) or "tiktoken" in str(error):
            raise UserError(
                f"clip.model: its hf_tokenizer_name {name!r} has a vocabulary of sentencepiece, and a "
                f"package to read it is missing; run pip install {TRANSFORMERS}"
            ) from None
        raise
    if len(adapter.tokenizer) <= len(set(adapter.tokenizer.all_special_ids)) + 1:
        raise OSError("its vocabulary is missing")
    return adapter


def build_preprocess(preprocessing: Config) -> Callable[[Image.Image], torch.Tensor]:
    """open_clip's transform: RGB picture -> float32 [3, H, W]; no augmentation."""
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**preprocessing), is_train=False
    )
    *_, to_tensor, normalise = transform.transforms
    assert isinstance(to_tensor, open_clip.transform.MaybeToTensor), "open_clip's transforms end like this"
    transform.transforms[-2:] = [NormalisedPixels(normalise.mean, normalise.std)]
    return transform


def default_preprocessing(config: Config, overrides: Config) -> Config:
    """open_clip's preprocessing for a config: its image size, CLIP's mean and deviation, then `overrides`."""
    values = asdict(open_clip.transform.PreprocessCfg(size=config["vision_cfg"]["image_size"]))
    return open_clip.transform.merge_preprocess_dict(values, overrides)


def _timm_name(name: str, arguments: Config) -> str:
    """timm's name of an architecture; with `arguments` that of a variant, which is registered here.

    Raises:
        UserError: timm has no such architecture, or an argument is null.
    """
    timm = import_timm()
    if not timm.is_model(name):
        raise UserError(
            f"clip.model: timm {timm.__version__} has no architecture {name!r}; install a newer timm"
        )
    unsaid = [key for key, value in arguments.items() if value is None]
    if unsaid:
        raise UserError(
            f"clip.model: vision_cfg.{VARIANT} has null for {', '.join(unsaid)}, which timm takes for its "
            "own default; give a value, or remove the key"
        )
    if not arguments:
        return name

    def variant(pretrained: bool = False, **given: Any) -> nn.Module:
        return timm.create_model(name, pretrained=pretrained, **(arguments | given))

    variant.__name__ = f"{name}_{fingerprint(arguments)}"
    if not timm.is_model(variant.__name__):
        timm.models.register_model(variant)
    return variant.__name__


def _not_found(key: str, name: Any, error: Exception) -> UserError:
    said = " ".join(str(error).split())[:200]
    return UserError(
        f"clip.model: its {key} {name!r} is no folder, and cannot be fetched from the hub: {said}; connect "
        "to the internet once, or put its files into the CLIP's own folder"
    )
