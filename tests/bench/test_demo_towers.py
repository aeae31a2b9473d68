"""The small CLIPs of every kind that are trained on the demo world, and the table that tells of them."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from bench.demo_towers import TOWERS, attentions_of, has_blocks, table
from fsgr_model.clip.model_building import build_model
from fsgr_model.clip.sources import read_config
from fsgr_model.clip.split import Tail
from fsgr_model.clip.towers import image_and_patches, make_tail, make_trunk

FOLDER = Path(__file__).parents[2] / "fsgr_model" / "clip"


def test_every_small_clip_is_in_the_table() -> None:
    # The demo's own tower once more, with room for texts whose characters are several tokens.
    longer = {"demo_vit_long"}
    assert {path.stem for path in FOLDER.glob("demo_*.json")} == {f"demo_{name}" for name in TOWERS} | longer


@torch.inference_mode()
@pytest.mark.parametrize("name", TOWERS)
def test_a_small_clip_can_be_trained_cut_and_read(name: str) -> None:
    config = read_config(str(FOLDER / f"demo_{name}.json"))[1]
    model = build_model(config, name).eval()
    side = config["vision_cfg"]["image_size"]
    images = torch.randn(2, 3, side, side)
    expected_BE = model.encode_image(images, normalize=True)
    image_BE, patch_BGE = image_and_patches(model, images)
    torch.testing.assert_close(image_BE, expected_BE, atol=1e-5, rtol=1e-4)
    tokens_BTW = make_trunk(model, TOWERS[name].cut)(images)
    for attention in attentions_of(TOWERS[name]):
        tail = make_tail(model, TOWERS[name].cut, attention)
        assert tail.aligned(tokens_BTW).shape == patch_BGE.shape
        assert has_blocks(name) == isinstance(tail, Tail)
        seen_BE = F.normalize(tail(tokens_BTW).global_BE, dim=-1)
        torch.testing.assert_close(seen_BE, expected_BE, atol=1e-5, rtol=1e-4)


def run(**changes: object) -> dict[str, object]:
    shares = {"chance": 0.04, "majority": 0.09, "retrieval": 0.5, "clip_cpu_seconds": 70.0, "epochs": 3}
    return {"labels": {"value": 0.5}, "grid": [8, 8], **shares, **changes}


def test_the_table_has_means_over_seeds_and_leaves_out_what_is_not_there() -> None:
    known = {
        "convnext-3-42": run(),
        "convnext-3-43": run(labels={"value": 0.7}),
        "vit-8-42": run(epochs=8),
        "vit-3-42": run(CIDEr=1.5),
    }
    head, _, vit, longer, convnext = (line.split(" | ") for line in table(known).splitlines())
    of = dict(zip(head, convnext, strict=True))
    assert of["value"] == "60.0 ± 10.0%" and of["plain"] == "" and of["seeds"] == "2" and of["CIDEr"] == ""
    assert dict(zip(head, vit, strict=True))["CIDEr"] == "1.500"
    assert dict(zip(head, longer, strict=True))["epochs"] == "8"
