"""What rounding the tokens costs: errors by layer, and captions and CIDEr of a trained network.

    python -m bench.rounding errors --random ViT-B-16
    python -m bench.rounding errors
    python -m bench.rounding captions

`errors` cuts a CLIP at every block: the project's in data/clip, or a random one of open_clip's architecture.
An error is the root of the summed squared differences over that of the squares: of the tokens, and of the
grid that the tail makes of them. `captions` captions the test split again from the float16 cache in
data/features, rounded further, with the weights in data/models/scst.

Shapes: B images, T tokens, W width.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from bench.rows import put_into_page
from fsgr_model.clip.image_reading import read_batches
from fsgr_model.clip.loading import Clip, load_clip
from fsgr_model.clip.model_building import build_model, build_preprocess, default_preprocessing
from fsgr_model.clip.sources import read_config
from fsgr_model.clip.token_cache import read_tokens, round_tokens
from fsgr_model.clip.towers import make_tail, make_trunk
from fsgr_model.config.params import Params, load_params
from fsgr_model.datasets.normal_form import read_images, read_instances
from fsgr_model.inference.captioning import search
from fsgr_model.kernels.inference import speed_up_inference
from fsgr_model.network.assembly import Assembly, build_captioner, load_weights
from fsgr_model.runtime.errors import UserError, run_command
from fsgr_model.runtime.row_store import RowStore, groups_of
from fsgr_model.scoring.comparison import References, differences, references_of_test_split
from pipeline.captions import read_test_split

PAGE = Path("docs/experiments/cache.md")
DATA = Path("data")
Rounding = Callable[[Tensor], Tensor]
GROUP = 32
LARGEST_E4M3, LARGEST_INT4 = 448.0, 7.0
CPU = torch.device("cpu")


def per_token(tokens_BTW: Tensor, largest: float) -> Tensor:
    """A float16 scale per token that maps its largest value to `largest`; 1 for a token of zeros."""
    scale_BT1 = (tokens_BTW.abs().amax(dim=-1, keepdim=True) / largest).half().float()
    return scale_BT1.where(scale_BT1 > 0, 1.0)


def fp8_per_token(tokens_BTW: Tensor) -> Tensor:
    """fp8 e4m3 with a scale per token: 0.501 of the bytes of float16 at width 768."""
    scale_BT1 = per_token(tokens_BTW, LARGEST_E4M3)
    scaled = (tokens_BTW / scale_BT1).clamp(-LARGEST_E4M3, LARGEST_E4M3)
    return scaled.to(torch.float8_e4m3fn).float() * scale_BT1


def fp8_plain(tokens_BTW: Tensor) -> Tensor:
    """fp8 e4m3 without scales: 0.5 of the bytes."""
    return tokens_BTW.clamp(-LARGEST_E4M3, LARGEST_E4M3).to(torch.float8_e4m3fn).float()


def int4_in_groups(tokens_BTW: Tensor) -> Tensor:
    """Four bits with a float16 scale for each 32 channels of a token: 0.281 of the bytes."""
    grouped = tokens_BTW.unflatten(-1, (-1, GROUP))
    scale = per_token(grouped, LARGEST_INT4)
    return ((grouped / scale).round().clamp(-LARGEST_INT4, LARGEST_INT4) * scale).flatten(-2)


ROUNDINGS: dict[str, Rounding] = {
    "float16": lambda tokens_BTW: round_tokens(tokens_BTW, "float16"),
    "int8, a scale per token": lambda tokens_BTW: round_tokens(tokens_BTW, "int8"),
    "fp8 e4m3, a scale per token": fp8_per_token,
    "fp8 e4m3": fp8_plain,
    "int4, a scale per 32 channels": int4_in_groups,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("errors", "captions"))
    parser.add_argument("--random", metavar="MODEL", help="with `errors`: an architecture, random weights")
    parser.add_argument("--images", type=int, default=16, help="with `errors`: of the test split")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--no-page", dest="page", action="store_const", const=None, help="change no page")
    given = parser.parse_args(arguments)
    if given.what == "errors":
        clip = random_clip(given.random) if given.random else load_clip(DATA / "clip", CPU)
        lines = error_table(clip, test_pictures(clip, given.images))
        name = f"errors of {given.random or 'the CLIP of data/clip'}"
    else:
        lines = caption_table(DATA, load_params())
        name = "captions"
    print("\n".join(lines))
    if given.page is not None:
        put_into_page(given.page, name, "\n".join(lines))


def random_clip(model: str) -> Clip:
    """An architecture with the weights that open_clip draws."""
    name, config = read_config(model)
    torch.manual_seed(0)
    preprocess = build_preprocess(default_preprocessing(config, {"resize_mode": "squash"}))
    return Clip(build_model(config, name).eval().requires_grad_(False), preprocess, config, {})


def test_pictures(clip: Clip, count: int) -> Tensor:
    """The first pictures of the test split, [B, 3, height, width].

    Raises:
        UserError: there is no dataset here.
    """
    records = read_images(DATA / "dataset", "test")[:count]
    if not records:
        raise UserError("data/dataset has no test images; run dvc repro dataset")
    return torch.cat(
        [images for _, images in read_batches(records, clip.preprocess, batch=len(records), workers=0)]
    )


@torch.inference_mode()
def error_table(clip: Clip, images: Tensor) -> list[str]:
    """A row for each cut: how far a token's largest value stands out, then the errors of each rounding."""
    lines = [
        "| cut | largest value / root mean square | " + " | ".join(ROUNDINGS) + " |",
        "| --- " * (2 + len(ROUNDINGS)) + "|",
    ]
    for cut in range(clip.config["vision_cfg"]["layers"]):
        tokens_BTW = make_trunk(clip.model, cut)(images)
        tail = make_tail(clip.model, cut, "plain")
        grid_BGW = tail(tokens_BTW).grid_BGW
        crest = tokens_BTW.abs().amax(dim=-1) / tokens_BTW.square().mean(dim=-1).sqrt()
        cells = [
            f"{error(rounded, tokens_BTW):.2%}, {error(tail(rounded).grid_BGW, grid_BGW):.2%}"
            for rounded in (rounding(tokens_BTW) for rounding in ROUNDINGS.values())
        ]
        lines.append(f"| {cut} | {crest.mean():.1f} | " + " | ".join(cells) + " |")
    return lines


def error(found: Tensor, exact: Tensor) -> float:
    """Relative, over all values."""
    return float((found - exact).norm() / exact.norm())


def caption_table(data: Path, params: Params) -> list[str]:
    """Captions that change and CIDEr, compared with those from the float16 cache over the same images."""
    parts, store = read_test_split(data, params.model)
    if parts.cache_dtype != "float16":
        raise UserError(
            "data/features must be of clip.cache_dtype: float16; set it and run dvc repro features"
        )
    assembly = build_captioner(parts, params.model, seed=0)
    load_weights(data / "models" / "scst", assembly)
    speed_up_inference(assembly.captioner)
    dataset = data / "dataset"
    references = References(references_of_test_split(dataset), read_instances(dataset), "python")
    spoken = {name: captions_of(assembly, store, rounding, params) for name, rounding in ROUNDINGS.items()}
    plain = spoken["float16"]
    lines = ["| cache | captions changed | CIDEr | difference, 95% interval |", "| --- | --- | --- | --- |"]
    for name, captions in spoken.items():
        changed = sum(captions[image_id] != text for image_id, text in plain.items())
        both = (references.score(as_results(each), Path(name)) for each in (plain, captions))
        cider = next(each for each in differences(*both) if each.score == "CIDEr")
        lines.append(
            f"| {name} | {changed} of {len(plain)} | {cider.b:.4f} | {cider.b - cider.a:+.4f}, "
            f"{cider.low:+.4f} to {cider.high:+.4f}{', real' if cider.real else ''} |"
        )
    return lines


def captions_of(assembly: Assembly, store: RowStore, rounding: Rounding, params: Params) -> dict[int, str]:
    """The best captions of all images of a float16 cache, from tokens that are rounded further."""
    found: dict[int, str] = {}
    for group in groups_of(store.image_ids, params.runtime.caption_batch):
        tokens_BTW = rounding(read_tokens(store, group, assembly.device))
        caption_BSL = search(assembly.captioner, tokens_BTW, params.decode, params.precision)[1]
        texts = map(assembly.vocabulary.decode, caption_BSL[:, 0].tolist())
        found |= dict(zip(group, texts, strict=True))
    return found


def as_results(captions: dict[int, str]) -> list[dict[str, int | str]]:
    return [{"image_id": image_id, "caption": text} for image_id, text in captions.items()]


if __name__ == "__main__":
    run_command(main)
