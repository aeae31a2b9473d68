"""What is fuzzed: every reader of files that come from outside, with good files to start from."""

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from fsgr_model.clip.concepts import read_concepts
from fsgr_model.config.dataset_params import ShardParams
from fsgr_model.config.params import load_params
from fsgr_model.datasets.contract import check_contract
from fsgr_model.datasets.demo.world_file import load_world
from fsgr_model.datasets.image_check import inspect_image
from fsgr_model.datasets.image_file import open_rgb
from fsgr_model.datasets.instances import read_instance_files
from fsgr_model.datasets.normal_form import ImageRecord
from fsgr_model.datasets.raw_form import RawDataset
from fsgr_model.datasets.reading import caption_records, read_files
from fsgr_model.datasets.shards import read_shards, unpack_pictures
from fsgr_model.runtime.artifacts import read_text
from fsgr_model.scoring.coco_files import read_reference_file, read_results
from fsgr_model.scoring.submission import ImageNames, read_lines
from fsgr_model.text.imported_words import import_words
from fsgr_model.text.ptb_tokenizer import PUNCTUATION, ptb_tokenize
from fsgr_model.text.vocabulary import SPECIALS, Vocabulary
from tests.fuzz.damage import any_text, damaged_bytes, either, odd_shards
from tests.worlds.small_dataset import (
    FILES,
    IMAGE_IDS,
    SmallDataset,
    karpathy_entry,
    section_of,
    write_instances,
)

ROOT = Path(__file__).parents[2]
TABLE = [
    ["image", "caption", "split"],
    ["11.png", "A dog.", "train"],
    ["12.png", 'A "cat"', "val"],
    ["21.png", "Ö", "test"],
]
FOLDERS = {split: "images" for split in FILES}


@dataclass(frozen=True)
class Target:
    """`prepare` makes good files in a folder and returns the one to damage; `read` reads that folder.

    `cases` draws what the file may hold instead; by default the damage that suits JSON. `share` is the number
    of cases in relation to others: slow readers get fewer.
    """

    name: str
    prepare: Callable[[Path], Path]
    read: Callable[[Path], object]
    cases: Callable[[bytes], st.SearchStrategy[bytes]] = either
    share: float = 1.0


def small(folder: Path) -> SmallDataset:
    dataset = SmallDataset(folder / "small").write()
    write_instances(dataset.root, [11, 21])
    return dataset


def captions_file(folder: Path) -> Path:
    return small(folder).root / FILES["train"]


def karpathy_file(folder: Path) -> Path:
    entries = [karpathy_entry(each, split) for split, ids in IMAGE_IDS.items() for each in ids]
    return _written(small(folder).root / "k.json", json.dumps({"images": entries}).encode())


def nocaps_file(folder: Path) -> Path:
    dataset = small(folder)
    for image in dataset.files["test"]["images"]:
        image["domain"] = "in-domain"
    return dataset.write().root / FILES["test"]


def id_file(folder: Path) -> Path:
    root = small(folder).root
    for name, ids in {"train": [110, 111, 120], "restval": [130], "dev": [210], "test": [310]}.items():
        np.save(root / f"coco_{name}_ids.npy", np.array(ids))
    return root / "coco_train_ids.npy"


def csv_file(folder: Path) -> Path:
    text = io.StringIO()
    csv.writer(text).writerows(TABLE)
    return _written(small(folder).root / "t.csv", text.getvalue().encode())


def vizwiz_file(folder: Path) -> Path:
    dataset = small(folder)
    for annotation in dataset.files["train"]["annotations"]:
        annotation |= {"is_precanned": annotation["id"] % 2 == 0, "is_rejected": annotation["id"] == 111}
    return dataset.write().root / FILES["train"]


def list_file(content: Callable[[int], Any]) -> Callable[[Path], Path]:
    """A list a split of one image each; that of training is damaged."""

    def prepare(folder: Path) -> Path:
        root = small(folder).root
        for split, (each, *_) in IMAGE_IDS.items():
            (root / FILES[split]).write_text(json.dumps(content(each)))
        return root / FILES["train"]

    return prepare


def token_file(folder: Path) -> Path:
    rows = [f"{each}.png#0\tA dog ." for ids in IMAGE_IDS.values() for each in ids]
    return _written(small(folder).root / "t.token", "\n".join(rows).encode())


def results_csv(folder: Path) -> Path:
    rows = [f"{each}.png| 0| A dog ." for ids in IMAGE_IDS.values() for each in ids]
    header = "image_name| comment_number| comment"
    return _written(small(folder).root / "r.csv", "\n".join([header, *rows]).encode())


def foreign_words(folder: Path) -> Path:
    folder.mkdir()
    words = {"ix_to_word": {"1": "a", "2": "dog", "3": "UNK"}, "images": []}
    return _written(folder / "cocotalk.json", json.dumps(words).encode())


def json_table(folder: Path) -> Path:
    rows = [dict(zip(TABLE[0], row, strict=True)) for row in TABLE[1:]]
    return _written(small(folder).root / "t.json", json.dumps(rows).encode())


def shard(folder: Path) -> Path:
    root = small(folder).root
    picture = (root / "images" / "11.png").read_bytes()
    for split in FILES:
        with tarfile.open(root / f"{split}.tar", "w:gz" if split == "val" else "w") as archive:
            for name, data in {"1.png": picture, "1.txt": b"A dog.", "1.json": b'{"caption": "a"}'}.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return root / "train.tar"


def packed_shard(folder: Path) -> Path:
    return shard(folder).with_name("val.tar")


def picture(name: str, **options: Any) -> Callable[[Path], Path]:
    def prepare(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        if options.get("turned"):
            image.getexif()[0x0112] = 6
            image.save(folder / name, exif=image.getexif())
        else:
            image.save(folder / name)
        return folder / name

    return prepare


def results_file(folder: Path) -> Path:
    folder.mkdir()
    return _written(
        folder / "r.json", b'[{"image_id": 1, "caption": "A dog."}, {"image_id": 2, "caption": "B"}]'
    )


def caption_lines(folder: Path) -> Path:
    folder.mkdir()
    return _written(
        folder / "r.jsonl", b'{"path": "a.jpg", "caption": "A dog."}\n{"path": "b", "caption": "B"}\n'
    )


def image_list(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    rows = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b"}]
    return _written(folder / "images.json", json.dumps({"images": rows}).encode())


def read_caption_lines(path: Path) -> None:
    read_lines(read_text(path), path, ImageNames(image_list(path.parent / "list")))


def words_file(folder: Path) -> Path:
    folder.mkdir()
    return _written(folder / "words.json", json.dumps([*SPECIALS, "a", "dog"]).encode())


def concepts_file(folder: Path) -> Path:
    folder.mkdir()
    return _written(folder / "concepts.txt", "dog\ncafé\ntraffic light\n".encode())


def copied(name: str) -> Callable[[Path], Path]:
    def prepare(folder: Path) -> Path:
        folder.mkdir()
        return Path(shutil.copy(ROOT / name, folder))

    return prepare


def text_file(folder: Path) -> Path:
    folder.mkdir()
    return _written(folder / "text", b"")


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def read_dataset(**changes: Any) -> Callable[[Path], object]:
    """As the stage `dataset` does, but for opening pictures that were not damaged."""

    def read(path: Path) -> None:
        params = section_of(path.parent, **changes)
        check_dataset(read_files(params, path.parent), path.parent)

    return read


def check_dataset(raw: RawDataset, folder: Path) -> None:
    check_contract(raw)
    records = caption_records(raw.captions)
    json.dumps([[each.text, each.tokens] for each in records], ensure_ascii=False).encode()
    for image in raw.images:
        json.dumps([image.file_name, image.domain], ensure_ascii=False).encode()
        inspect_image(folder / image.file_name)


def read_all_shards(path: Path) -> None:
    shards = read_shards(path.parent, ShardParams(train="train.tar", val="val.tar", test="test.tar"))
    check_dataset(shards.raw, path.parent / "none")
    unpack_pictures(shards, path.parent / "unpacked")


def read_masks(path: Path) -> None:
    ours = [ImageRecord(each, "train", f"images/{each}.png", 12, 9, 1, "") for each in (11, 21)]
    read_instance_files(path.parent, [path.name], ours)


def tokenize(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "surrogatepass")
    tokens = ptb_tokenize(text)
    for token in tokens:
        assert token and token not in PUNCTUATION, (text, token)
        assert not set(token) & set(" \t\n\r"), (text, token)
    vocabulary = Vocabulary([*SPECIALS, *dict.fromkeys(tokens)]) if "<unk>" not in tokens else None
    if vocabulary and not set(tokens) & set(SPECIALS):
        assert vocabulary.decode(vocabulary.encode(tokens, len(tokens))) == " ".join(tokens)


TARGETS = [
    Target("tokenizer", text_file, tokenize, lambda whole: any_text, share=4.0),
    Target("COCO captions", captions_file, read_dataset()),
    Target("Karpathy", karpathy_file, read_dataset(format="karpathy", karpathy_file="k.json")),
    Target("VizWiz", vizwiz_file, read_dataset()),
    Target(
        "BLIP list",
        list_file(lambda each: [{"image": f"{each}.png", "caption": ["A dog."], "image_id": f"coco_{each}"}]),
        read_dataset(format="blip"),
    ),
    Target(
        "TextCaps",
        list_file(
            lambda each: {
                "data": [
                    {"image_id": str(each), "caption_str": "A dog.", "reference_strs": ["A dog.", "A cat."]}
                ]
            }
        ),
        read_dataset(format="textcaps"),
    ),
    Target(
        "narratives",
        list_file(lambda each: {"dataset_id": "mscoco_val2017", "image_id": str(each), "caption": "A dog."}),
        read_dataset(format="narratives"),
    ),
    Target(
        "AI Challenger",
        list_file(lambda each: [{"image_id": f"{each}.jpg", "caption": ["一只狗", "A dog."]}]),
        read_dataset(format="ai_challenger"),
    ),
    Target("nocaps", nocaps_file, read_dataset(format="nocaps", images=FOLDERS)),
    Target(
        "M2 ids",
        id_file,
        read_dataset(
            format="m2",
            m2={"ids": ".", "sources": [{"captions": name, "images": "images"} for name in FILES.values()]},
        ),
        damaged_bytes,
    ),
    Target("CSV table", csv_file, read_dataset(format="folder", table={"file": "t.csv"}), damaged_bytes),
    Target("token file", token_file, read_dataset(format="folder", table={"file": "t.token"}), damaged_bytes),
    Target("results.csv", results_csv, read_dataset(format="folder", table={"file": "r.csv"}), damaged_bytes),
    Target("JSON table", json_table, read_dataset(format="folder", table={"file": "t.json"})),
    Target("tar shard", shard, read_all_shards, damaged_bytes),
    Target("odd shard", shard, read_all_shards, lambda whole: odd_shards),
    Target("packed shard", packed_shard, read_all_shards, damaged_bytes),
    Target("instances", lambda folder: small(folder).root / "instances.json", read_masks),
    *[
        Target(
            f"{kind} picture",
            picture(f"a.{kind}", turned=kind in ("jpg", "png", "webp")),
            open_rgb,
            damaged_bytes,
        )
        for kind in ("jpg", "png", "gif", "tif", "webp", "bmp", "ppm")
    ],
    Target("word list", words_file, Vocabulary.load),
    Target("foreign word list", foreign_words, import_words),
    Target("concepts", concepts_file, read_concepts, damaged_bytes),
    Target("results", results_file, read_results),
    Target("references", captions_file, read_reference_file),
    Target("caption lines", caption_lines, read_caption_lines, damaged_bytes),
    Target("image list", image_list, ImageNames),
    Target("params.yaml", copied("params.yaml"), load_params, damaged_bytes, share=0.1),
    Target("world.yaml", copied("data/demo/world.yaml"), load_world, damaged_bytes, share=0.02),
]


def cases_of(target: Target, total: int) -> int:
    """Its part of `total` cases of all targets, at least one."""
    return max(1, ceil(total * target.share / sum(each.share for each in TARGETS)))
