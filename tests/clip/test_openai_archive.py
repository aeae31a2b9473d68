"""A TorchScript archive of OpenAI's geometry and precision, against open_clip's own loading of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.model_building import build_model
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.weight_files import OPENAI_EXTRAS
from fsgr_model.config.params import RuntimeParams
from pipeline.clip import prepare_clip


class Part(nn.Module):
    """Holds weights under their names, as the archive does; what it computes does not matter."""

    def forward(self) -> int:
        return 0


def write_archive(path: Path, name: str) -> None:
    """Random weights, half of them of 16 bits, and OpenAI's three numbers among them."""
    torch.manual_seed(5)
    config = open_clip.get_model_config(name)
    model = build_model({**config, "quick_gelu": True}, name)
    open_clip.convert_weights_to_fp16(model)
    root = Part()
    for full_name, weight in model.state_dict().items():
        *places, last = full_name.split(".")
        part = root
        for place in places:
            if not hasattr(part, place):
                part.add_module(place, Part())
            part = part.get_submodule(place)
        part.register_buffer(last, weight)
    numbers = (config["vision_cfg"]["image_size"], 77, 49408)
    for number_name, number in zip(OPENAI_EXTRAS, numbers, strict=True):
        root.register_buffer(number_name, torch.tensor(number))
    torch.jit.script(root).save(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-32", "RN50"])
@torch.inference_mode()
def test_features_are_those_of_open_clip(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.pt"
    write_archive(path, name)
    no_dataset = Path("no dataset is needed")
    prepare_clip(
        name,
        pretrained=str(path),
        resize_mode="shortest",
        preprocess_as=None,
        training=None,
        dataset=no_dataset,
        runtime=RuntimeParams(),
        out=tmp_path / "clip",
    )
    ours = load_clip(tmp_path / "clip", torch.device("cpu"))
    theirs = open_clip.load_openai_model(str(path), precision="fp32", device="cpu").eval()
    path.unlink()
    assert json.loads((tmp_path / "clip" / "clip.json").read_text())["config"]["quick_gelu"] is True

    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    their_transform = open_clip.image_transform(theirs.visual.image_size, is_train=False)
    image = ours.preprocess(picture)
    assert torch.equal(image, their_transform(picture))
    texts = open_clip.tokenize(["a dog", "two cats on a mat"])
    assert torch.equal(ours.tokenizer(["a dog", "two cats on a mat"]), texts)
    for ask in (lambda clip: clip.encode_image(image[None]), lambda clip: clip.encode_text(texts)):
        feature_BE = ask(ours.model)
        assert feature_BE.std() > 0
        torch.testing.assert_close(feature_BE, ask(theirs))
    torch.testing.assert_close(ours.model.logit_scale, theirs.logit_scale)
