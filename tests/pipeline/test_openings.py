"""Each stage, `fsgr caption` and `fsgr compare` open every file that they read once."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from fsgr_model.clip.weight_files import read_weights
from fsgr_model.commands import caption, compare
from fsgr_model.inference.model_folder import export_model
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.row_store import RowStore
from fsgr_model.runtime.tensor_file import load_tensors
from pipeline import (
    captions,
    clip,
    codebook,
    dataset,
    evaluate,
    features,
    labels,
    train_scst,
    train_xe,
    vocab,
)
from tests.worlds.openings import Opened, openings
from tests.worlds.project import CLIP_CONFIG

pytestmark = pytest.mark.slow
STAGES = (dataset, clip, features, codebook, vocab, labels, train_xe, train_scst, captions, evaluate)
NAMES = [stage.__name__.partition(".")[2] for stage in STAGES]


@pytest.fixture(scope="module")
def place(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `source` has the pictures, captions and CLIP of the small project."""
    place = tmp_path_factory.mktemp("openings")
    source = place / "source"
    shutil.copytree(project / "data" / "dataset" / "images", source / "images")
    data = project / "data" / "dataset"
    images, of_images = (load_json(data / f"{name}.json") for name in ("images", "captions"))
    rows = [
        f"{Path(image['path']).name}\t{image['split']}\t{row['text']}\n"
        for image in images
        for row in of_images
        if row["image_id"] == image["image_id"]
    ]
    (source / "captions.tsv").write_text("".join(["image\tsplit\tcaption\n", *rows]))
    (source / "tiny.json").write_text(json.dumps(CLIP_CONFIG))
    shutil.copyfile(project / "data" / "clip" / "clip.safetensors", source / "weights.safetensors")
    (source / "concepts.txt").write_text("red\ngreen\nblue\nwhite\n")
    values = yaml.safe_load((project / "params.yaml").read_text())
    values["dataset"] = {"format": "folder", "root": "source", "watch": ".", "images": "images"}
    values["dataset"] |= {"table": {"file": "captions.tsv"}, "seed": 42}
    values["clip"] |= {"model": "source/tiny.json", "pretrained": "source/weights.safetensors"}
    values["clip"] |= {"preprocess_as": "ViT-B-16/openai"}
    values["codebook"]["concepts"] = "source/concepts.txt"
    values["xe"] |= {"epochs": 1, "contrast": {"weight": 0.1, "anchors": 64}, "alignment": {"weight": 0.1}}
    values["scst"] |= {"epochs": 1, "batch_size": 16, "schedule": None}
    values["evaluate"] |= {"java": []}
    (place / "params.yaml").write_text(yaml.safe_dump(values))
    return place


@pytest.fixture(scope="module")
def opened(place: Path) -> dict[str, Opened]:
    """What each stage opened, run one after another, and then the two commands."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("DVC_ROOT", str(place))
        for name, stage in zip(NAMES, STAGES, strict=True):
            with openings(place) as found[name]:
                stage.main()
        export_model("scst", place / "model", place)
        picture = str(next((place / "source" / "images").iterdir()))
        patch.setattr(sys, "argv", ["fsgr caption", "--model", "model", picture])
        with openings(place) as found["fsgr caption"]:
            caption.main()
        spoken = {row["image_id"]: row["text"] for row in load_json(Path("data/dataset/captions.json"))}
        rows = load_json(Path("data/captions/xe.json"))
        human = [row | {"caption": spoken[row["image_id"]]} for row in rows]
        Path("human.json").write_text(json.dumps(human))
        patch.setattr(sys, "argv", ["fsgr compare", "data/captions/xe.json", "human.json"])
        with openings(place) as found["fsgr compare"]:
            compare.main()
        assert Path("compare.png").is_file()
    return found


def often(stage: str, file: str) -> int:
    """How often a stage may open a file."""
    if file.endswith(".h5"):
        return 2  # HDF5 says where the rows lie, then they are copied out of the mapped file
    if (stage, file) in {
        ("dataset", "source/captions.tsv"),  # the first lines say of which kind a table is
        ("clip", "source/weights.safetensors"),  # a library reads them, then their SHA-256 is noted
        ("evaluate", "params.yaml"),  # the parameters, and the fingerprint of all that is written there
    }:
        return 2
    return 1


@pytest.mark.parametrize("name", [*NAMES, "fsgr caption", "fsgr compare"])
def test_every_file_is_opened_once(name: str, opened: dict[str, Opened]) -> None:
    found = opened[name]
    assert len(found) > 2, "or nothing was counted"
    assert {file: count for file, count in found.items() if count > often(name, file)} == {}


def test_the_counter_hears_every_way_of_opening(place: Path, opened: dict[str, Opened]) -> None:
    weights, rows = "data/models/xe/model.safetensors", "data/features/val.h5"
    with openings(place) as found:
        (place / weights).read_bytes()
        load_tensors(place / weights, "")
        read_weights(place / weights)
        RowStore(place / rows, {}).load_all()
        (place / weights).open("ab").close()
        (place / "new").write_text("")
        (place / "new").read_text()
    assert found == {weights: 3, rows: 2}
