"""The drawn dataset as a whole: determinism, ids, masks, files."""

import hashlib
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from fsgr_model.config.dataset_params import DemoDataset, DemoWorldParams
from fsgr_model.config.params import load_params
from fsgr_model.datasets.demo.world import Assignment, draw_demo_world, draw_pictures
from fsgr_model.datasets.demo.world_file import load_world
from fsgr_model.datasets.normal_form import Dataset, read_captions, read_images, read_instances, write_dataset
from fsgr_model.runtime.errors import UserError
from fsgr_model.text.ptb_tokenizer import ptb_tokenize
from pipeline.dataset import build_dataset

WORLD_FILE = Path("data/demo/world.yaml")
SMALL = DemoWorldParams(train_images=20, val_images=4, test_images=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return draw_demo_world(WORLD_FILE, SMALL, 5, folder, place="data/dataset")


def all_bytes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_same_bytes(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    again = draw_demo_world(WORLD_FILE, SMALL, 5, tmp_path / "again", place="data/dataset")
    assert again == dataset
    assert all_bytes(tmp_path / "again") == all_bytes(folder)
    other = draw_demo_world(WORLD_FILE, SMALL, 6, tmp_path / "other", place="data/dataset")
    assert [image.sha256 for image in other.images] != [image.sha256 for image in dataset.images]


def test_every_version_of_pillow_draws_the_same(tmp_path: Path) -> None:
    """Seen with 12.3 and 13.0, which differ in how they resize wider and flatter at once."""
    assignments = [Assignment(image_id, "train", "") for image_id in (1, 2, 3)]
    draw_pictures(load_world(WORLD_FILE), assignments, 5, tmp_path, place="data", processes=1)
    pixels = hashlib.sha256()
    for path in sorted((tmp_path / "images").rglob("*.png")):
        pixels.update(np.asarray(Image.open(path)).tobytes())
    assert pixels.hexdigest().startswith("04b146416f1df57d")


@pytest.mark.slow
def test_result_does_not_depend_on_process_count(tmp_path: Path) -> None:
    world = load_world(WORLD_FILE)
    assignments = [Assignment(image_id, "train", "") for image_id in range(1, 31)]
    one = draw_pictures(world, assignments, 5, tmp_path / "one", place="data", processes=1)
    two = draw_pictures(world, assignments, 5, tmp_path / "two", place="data", processes=2)
    assert one == two
    write_dataset(tmp_path / "one", one)
    write_dataset(tmp_path / "two", two)
    assert all_bytes(tmp_path / "one") == all_bytes(tmp_path / "two")


def test_a_picture_does_not_depend_on_the_others(dataset: Dataset, tmp_path: Path) -> None:
    alone = draw_pictures(
        load_world(WORLD_FILE), [Assignment(17, "train", "")], 5, tmp_path, place="data/dataset", processes=1
    )
    assert alone.images == [dataset.images[16]]


def test_splits_and_domains(dataset: Dataset) -> None:
    found = [(image.split, image.domain) for image in dataset.images]
    assert found == [("train", "")] * 20 + [("val", "")] * 4 + [("test", "seen"), ("test", "unseen")] * 6


def shows_held_out(instances: dict[str, list[dict[str, Any]]]) -> dict[int, bool]:
    """Whether the annotations of each image show a held-out combination, without the project's rule code."""
    rule = yaml.safe_load(WORLD_FILE.read_text(encoding="utf-8"))["held_out"]
    names = {row["id"]: row["name"] for row in instances["categories"]}
    coloured: dict[int, set[tuple[str, str]]] = defaultdict(set)
    for row in instances["annotations"]:
        coloured[row["image_id"]].add((names[row["category_id"]], row.get("colour", "")))
    found = {}
    for image_id, shown in coloured.items():
        kinds = {kind for kind, _ in shown}
        pairs = [pair for pair in rule["pairs"] if set(pair) <= kinds]
        found[image_id] = bool(pairs) or any(tuple(pair) in shown for pair in rule["colours"])
    return found


def test_only_unseen_images_show_held_out_combinations(dataset: Dataset) -> None:
    unseen = {image.image_id: image.domain == "unseen" for image in dataset.images}
    assert shows_held_out(dataset.instances) == unseen


def test_pictures_for_clip_alone_lie_apart_and_show_everything(tmp_path: Path) -> None:
    demo = SMALL.model_copy(update={"pretraining_images": 60})
    params = DemoDataset(format="demo", root="data/demo", watch="world.yaml", demo=demo, seed=5)
    place = tmp_path / "dataset"
    build_dataset(params, place, workers=0)
    apart = place / "pretraining"
    pictures = read_images(apart)
    held_out = shows_held_out(read_instances(apart))
    assert len(pictures) == len(held_out) == 60
    assert {picture.split for picture in pictures} == {"train"}
    assert 6 < sum(held_out.values()) < 40
    assert set(read_captions(apart)) == {picture.image_id for picture in pictures}
    assert all(Path(picture.path).parent == apart / "images" for picture in pictures)
    main = read_images(place)
    assert not {picture.sha256 for picture in pictures} & {picture.sha256 for picture in main}
    drawn = draw_demo_world(WORLD_FILE, SMALL, 5, tmp_path / "drawn", place=place.as_posix())
    assert main == drawn.images


@pytest.mark.slow
def test_a_fifth_of_the_default_world(tmp_path: Path) -> None:
    """No held-out combination outside unseen test images, and a rich but learnable language."""
    default = load_params().dataset.demo
    assert default is not None
    sizes = ("train_images", "val_images", "test_images")
    demo = default.model_copy(update={size: getattr(default, size) // 5 for size in sizes})
    world = draw_demo_world(WORLD_FILE, demo, 42, tmp_path, place="data/dataset")
    unseen = {image.image_id: image.domain == "unseen" for image in world.images}
    assert shows_held_out(world.instances) == unseen
    domains = Counter(image.domain for image in world.images if image.split == "test")
    assert domains == {"seen": demo.test_images // 2, "unseen": demo.test_images // 2}
    words = Counter(word for caption in world.captions for word in set(caption.tokens))
    assert 150 <= len(words) <= 300
    rare = [word for word, times in words.items() if 0.001 <= times / len(world.captions) <= 0.01]
    assert len(rare) > 30
    assert world.report["distinct_captions"] > 0.9 * len(world.captions)
    shown = Counter(row["category_id"] for row in world.instances["annotations"])
    assert min(shown.values()) > 40


def test_ids_cannot_be_taken_for_one_another(dataset: Dataset) -> None:
    image_ids = [image.image_id for image in dataset.images]
    caption_ids = [caption.annotation_id for caption in dataset.captions]
    instance_ids = [row["id"] for row in dataset.instances["annotations"]]
    assert image_ids == list(range(1, 37))
    everything = image_ids + caption_ids + instance_ids
    assert len(set(everything)) == len(everything)


def test_captions_belong_to_images_and_are_tokenized(dataset: Dataset) -> None:
    counts = np.bincount([caption.image_id for caption in dataset.captions], minlength=37)
    assert counts[1:].tolist() == [5] * 36
    for caption in dataset.captions:
        assert caption.tokens == ptb_tokenize(caption.text) != []


def test_files_are_what_the_manifest_says(dataset: Dataset, folder: Path) -> None:
    for record in dataset.images:
        content = (folder / Path(record.path).relative_to("data/dataset")).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (record.bytes, record.sha256)
        with Image.open(folder / Path(record.path).relative_to("data/dataset")) as image:
            assert (image.size, image.mode, image.format) == ((record.width, record.height), "RGB", "PNG")


def test_masks_divide_each_picture_among_things_and_background(dataset: Dataset) -> None:
    for record in dataset.images:
        rows = [row for row in dataset.instances["annotations"] if row["image_id"] == record.image_id]
        covered = np.sum([coco_mask.decode(row["segmentation"]) for row in rows], axis=0, dtype=int)
        assert covered.shape == (record.height, record.width)
        assert covered.min() == covered.max() == 1


def test_boxes_and_areas_are_those_of_the_masks(dataset: Dataset) -> None:
    for row in dataset.instances["annotations"]:
        assert row["bbox"] == coco_mask.toBbox(row["segmentation"]).tolist()
        assert row["area"] == int(coco_mask.area(row["segmentation"])) > 60
        assert row["iscrowd"] == 0


def test_pycocotools_reads_instances_and_categories(dataset: Dataset) -> None:
    coco = COCO()
    coco.dataset = {
        "images": [asdict(image) | {"id": image.image_id} for image in dataset.images],
        **dataset.instances,
    }
    coco.createIndex()
    names = {row["name"] for row in coco.loadCats(coco.getCatIds())}
    assert len(names) >= 20
    assert {row["supercategory"] for row in dataset.instances["categories"]} == {"object", "background"}
    assert coco.annToMask(coco.loadAnns(coco.getAnnIds(imgIds=[1]))[0]).any()
    background = {
        row["id"] for row in dataset.instances["categories"] if row["supercategory"] == "background"
    }
    for image in dataset.images:
        assert sum(ann["category_id"] in background for ann in coco.imgToAnns[image.image_id]) == 1


def test_report_counts(dataset: Dataset) -> None:
    assert dataset.report["images"] == {"train": 20, "val": 4, "test": 12}
    assert dataset.report["captions"] == len(dataset.captions) == 180
    assert dataset.report["test_unseen"] == 6


def test_an_object_without_a_drawing_is_refused(tmp_path: Path) -> None:
    text = WORLD_FILE.read_text(encoding="utf-8")
    dragon = (
        "objects:\n  dragon: {zone: air, colours: [red, green], nouns: {dragon: dragons}, doing: [flying]}\n"
    )
    in_chinese = "\n  objects:\n    dragon: {measure: {条: 1}, nouns: [龙], doing: [飞]}\n"
    text = text.replace("objects:\n", dragon, 1).replace("\n  objects:\n", in_chinese, 1)
    (tmp_path / "world.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="object 'dragon' has no drawing"):
        draw_demo_world(tmp_path / "world.yaml", SMALL, 5, tmp_path, place="data/dataset")
