"""A project of six pictures with everything in it, and the commands and functions that are run there."""

import io
import json
import shutil
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file

from fsgr_model.clip.model_building import build_model
from fsgr_model.config.dataset_params import KIND_OF_FORMAT
from fsgr_model.config.params import load_params
from fsgr_model.runtime.errors import run_command
from tests.faults.places import ROOT
from tests.worlds.small_dataset import draw_noise, karpathy_entry, write_instances

CLIP_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
IMAGE_IDS = {"train": (11, 12, 13, 14), "val": (21, 22), "test": (31, 32)}
ALL_IDS = sum(IMAGE_IDS.values(), ())
SOURCE = Path("data/flickr8k")
THINGS = ("dog", "cat", "tree")
Values = dict[str, Any]
Main = Callable[[], None]
Prepare = Callable[[Values], None]


def as_it_is(params: Values) -> None:
    """Nothing is changed."""


@dataclass(frozen=True)
class Driver:
    """`main` of a command or a function, which ends with exit code `ends` where nothing is refused.

    `prepare` changes files and parameters of the project before.
    """

    name: str
    main: Main
    prepare: Prepare = as_it_is
    ends: int = 0


def command(module: str, *arguments: str, prepare: Prepare = as_it_is, ends: int = 0) -> Driver:
    def main() -> None:
        sys.argv = [module, *arguments]
        room = "pipeline" if (ROOT / "pipeline" / f"{module}.py").exists() else "fsgr_model.commands"
        run_command(import_module(f"{room}.{module}").main)

    changed = "" if prepare is as_it_is else f" ({prepare.__name__})"
    return Driver(f"{module}{changed}", main, prepare, ends)


def build(project: Path) -> None:
    """Write the inputs. The current folder is the project's."""
    torch.manual_seed(0)
    (SOURCE / "images").mkdir(parents=True)
    for split, numbers in IMAGE_IDS.items():
        for number in numbers:
            draw_noise(SOURCE / f"images/{number}.png", number)
        content = {"images": _images(numbers), "annotations": _captions(numbers)}
        (SOURCE / f"captions_{split}.json").write_text(json.dumps(content))
    write_instances(SOURCE, list(ALL_IDS))
    _write_clip(Path("tiny"))
    shutil.copytree(SOURCE / "images", "pictures")
    references = {"images": _images(), "annotations": _captions()}
    Path("references.json").write_text(json.dumps(references))
    rows = [{"image_id": number, "caption": "a dog"} for number in ALL_IDS]
    Path("results.json").write_text(json.dumps(rows))
    lines = [json.dumps({"path": f"x/{number}.png", "caption": "a dog"}) for number in ALL_IDS]
    Path("lines.jsonl").write_text("\n".join(lines) + "\n")
    Path("words.json").write_text(json.dumps(["<unk>", "<pad>", "<bos>", "<eos>", "a", "red", "dog"]))
    Path("concepts.txt").write_text("dog\ncat\ntree\n")
    Path("bench/results").mkdir(parents=True)
    (project / "params.yaml").write_text(yaml.safe_dump(_params()))
    load_params()


def _images(numbers: Sequence[int] = ALL_IDS) -> list[Values]:
    return [{"id": number, "file_name": f"{number}.png"} for number in numbers]


def _captions(numbers: Sequence[int] = ALL_IDS) -> list[Values]:
    things = {number: THINGS[number % len(THINGS)] for number in numbers}
    return [
        {"id": 10 * number + place, "image_id": number, "caption": f"{start} {things[number]} {number}."}
        for number in numbers
        for place, start in enumerate(("A red", "This is a"))
    ]


def _write_clip(folder: Path) -> None:
    folder.mkdir()
    config = {"model_cfg": CLIP_CONFIG, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    Path("tiny.json").write_text(json.dumps(CLIP_CONFIG))
    weights = build_model(CLIP_CONFIG, "tiny").state_dict()
    torch.save(weights, folder / "open_clip_pytorch_model.bin")


def _params() -> Values:
    values: Values = yaml.safe_load((ROOT / "presets" / "flickr8k.yaml").read_text(encoding="utf-8"))
    values["dataset"] |= {"instances": ["instances.json"], "on_bad_image": "fail"}
    values["clip"] |= {"model": "tiny", "pretrained": "folder", "cut": 1}
    values["codebook"] |= {"concepts": "concepts.txt", "templates": "simple"}
    values["vocab"] |= {"min_count": 1}
    values["model"] |= {"d_model": 24, "num_heads": 4, "d_ff": 32, "encoder_layers": 1, "decoder_layers": 1}
    values["model"] |= {"top_k": 2, "dropout": 0.0}
    for phase in ("xe", "scst"):
        values[phase] |= {"epochs": 1, "batch_size": 4, "schedule": None, "max_length": 5}
    values["decode"] |= {"beam_size": 2, "max_length": 5}
    values["evaluate"] |= {"java": []}
    values["runtime"] = {"workers": 0}
    return values


def _another(params: Values, form: str, **more: Any) -> None:
    known = KIND_OF_FORMAT[form].model_fields
    shared = {name: value for name, value in params["dataset"].items() if name in known}
    none: Values = {"instances": []} if "instances" in known else {}
    params["dataset"] = shared | none | {"format": form, **more}


def table(params: Values) -> None:
    """One picture is a link."""
    (SOURCE / "images/11.png").rename(SOURCE / "elsewhere.png")
    (SOURCE / "images/11.png").symlink_to("../elsewhere.png")
    split = {number: name for name, numbers in IMAGE_IDS.items() for number in numbers}
    rows = ["image,caption,split", *(f"{number}.png,a red dog,{split[number]}" for number in ALL_IDS)]
    (SOURCE / "table.csv").write_text("\n".join(rows) + "\n")
    _another(params, "folder", seed=42, table={"file": "table.csv"})


def token_file(params: Values) -> None:
    rows = [f"{number}.png#0\tA red dog ." for number in ALL_IDS]
    (SOURCE / "Flickr8k.token.txt").write_text("\n".join(rows) + "\n")
    for split, numbers in IMAGE_IDS.items():
        (SOURCE / f"{split}.txt").write_text("".join(f"{number}.png\n" for number in numbers))
    lists = {split: f"{split}.txt" for split in IMAGE_IDS}
    _another(params, "folder", seed=42, table={"file": "Flickr8k.token.txt", "splits": lists})


def shards(params: Values) -> None:
    for split, numbers in IMAGE_IDS.items():
        with tarfile.open(SOURCE / f"{split}-0.tar", "w") as archive:
            for number in numbers:
                archive.add(SOURCE / f"images/{number}.png", f"{number}.png")
                caption = tarfile.TarInfo(f"{number}.txt")
                caption.size = len(b"a red dog")
                archive.addfile(caption, io.BytesIO(b"a red dog"))
    _another(params, "webdataset", shards={split: f"{split}-*.tar" for split in IMAGE_IDS})


def karpathy(params: Values) -> None:
    """With a link to itself among the pictures."""
    entries = [karpathy_entry(number, split) for split, numbers in IMAGE_IDS.items() for number in numbers]
    (SOURCE / "dataset.json").write_text(json.dumps({"images": entries, "dataset": "coco"}))
    (SOURCE / "loop").symlink_to("loop")
    _another(params, "karpathy", images=".", karpathy_file="dataset.json")


def m2(params: Values) -> None:
    content = {"images": _images(), "annotations": _captions()}
    (SOURCE / "all.json").write_text(json.dumps(content))
    parts = {"train": (11, 12, 13), "restval": (14,), "dev": (21, 22), "test": (31, 32)}
    for name, numbers in parts.items():
        ids = [caption["id"] for caption in _captions(numbers)]
        np.save(SOURCE / f"coco_{name}_ids.npy", np.asarray(ids))
    sources = [{"captions": "all.json", "images": "images"}]
    _another(params, "m2", m2={"ids": ".", "sources": sources})


def coco_names(params: Values) -> None:
    """Pictures that lie where COCO's releases have them, and a caption of two lines."""
    names = {number: f"COCO_train2014_{number:012d}.jpg" for number in ALL_IDS}
    (SOURCE / "images/train2014").mkdir()
    for number, name in names.items():
        (SOURCE / f"images/{number}.png").rename(SOURCE / "images/train2014" / name)
    rows = [f'{name},"a red\ndog"' for name in names.values()]
    (SOURCE / "coco.csv").write_text("\n".join(["image,caption", *rows]) + "\n")
    _another(params, "folder", seed=42, table={"file": "coco.csv", "val_share": 0.3, "test_share": 0.3})


def demo(params: Values) -> None:
    shutil.copytree(ROOT / "data/demo", "data/demo")
    sizes = {"train_images": 4, "val_images": 1, "test_images": 2, "pretraining_images": 2}
    _another(params, "demo", root="data/demo", watch="world.yaml", demo=sizes, seed=42)


def clip_demo(params: Values) -> None:
    params["clip"] |= {"model": "tiny.json", "pretrained": "demo"}
    params["clip"]["training"] |= {"epochs": 1, "batch_size": 8}


def clip_safetensors(params: Values) -> None:
    shutil.copy("data/clip/clip.safetensors", "weights.safetensors")
    params["clip"] |= {"model": "tiny.json", "pretrained": "weights.safetensors"}
    params["clip"]["preprocess_as"] = "ViT-B-16/openai"


def clip_torchscript(params: Values) -> None:
    root = torch.nn.Module()
    for name, weight in load_file("data/clip/clip.safetensors").items():
        *places, last = name.split(".")
        part: torch.nn.Module = root
        for place in places:
            if not hasattr(part, place):
                part.add_module(place, torch.nn.Module())
            part = part.get_submodule(place)
        part.register_buffer(last, weight)
    torch.jit.script(root).save("archive.pt")
    params["clip"] |= {"model": "tiny.json", "pretrained": "archive.pt"}


def given_words(params: Values) -> None:
    params["vocab"] |= {"words": "words.json"}


def odd_files(params: Values) -> None:
    """What a folder of pictures may hold besides: files that are told by their first bytes, and links."""
    Path("pictures/odd").write_text("BM is how a text may begin")
    Path("elsewhere").mkdir()
    Path("pictures/link").symlink_to("../elsewhere")


def workers(params: Values) -> None:
    params["runtime"] = {"workers": 1}


def published_clip(params: Values) -> None:
    params["clip"] |= {"model": "RN50", "pretrained": "openai"}


def with_sentences(params: Values) -> None:
    """Another system, to compare with."""
    rows = [{"image_id": number, "caption": f"a red {THINGS[number % 3]}"} for number in IMAGE_IDS["test"]]
    Path("others.json").write_text(json.dumps(rows))
    Path("ours.json").write_text(json.dumps([{**row, "caption": "this is"} for row in rows]))


def exported(params: Values) -> None:
    import_module("fsgr_model.inference.model_folder").export_model("xe", Path("model"))


SCORE = ("--references", "references.json", "--results", "results.json", "--meteor", "off")
STAGES = [
    command(name)
    for name in (
        "dataset",
        "clip",
        "features",
        "codebook",
        "vocab",
        "labels",
        "train_xe",
        "train_scst",
        "captions",
        "evaluate",
    )
]
COMMANDS = [
    command("score", *SCORE, "--by-image", "by.json"),
    command(
        "results", "--captions", "lines.jsonl", "--images", "references.json",
        "--split", "val2014", "--name", "a",
    ),
    *(command("dataset", prepare=each) for each in (table, token_file, shards, karpathy, m2)),
    *(command("dataset", prepare=each) for each in (coco_names, demo)),
    *(command("clip", prepare=each) for each in (clip_demo, clip_safetensors, clip_torchscript)),
    command("features", prepare=workers),
    command("vocab", prepare=given_words),
    command("compare", "ours.json", "others.json", prepare=with_sentences),
    command("compare", "results.json", "results.json", "--references", "references.json"),
    command("compare", "workspace", "workspace"),
    command("compare", "HEAD", "workspace", ends=1),
    command("export", "--phase", "scst", "--out", "model"),
    command("caption", "--phase", "xe", "pictures/11.png", "--overlay", "sheets"),
    command("caption", "--phase", "xe", "pictures", prepare=odd_files),
    command("caption", "--model", "model", "pictures", prepare=exported),
    *(command("check", "--no-timing", prepare=each) for each in (as_it_is, shards, demo)),
    command("check", "--no-timing", prepare=published_clip, ends=1),
    command("standing"),
]  # fmt: skip
