"""The demo dataset: scenes drawn, captioned and annotated, in the project's normal form."""

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask

from fsgr_model.config.dataset_params import DemoWorldParams, Language
from fsgr_model.config.text_params import Segmenter
from fsgr_model.datasets.demo.backdrops import PAINTERS, WEATHER
from fsgr_model.datasets.demo.grammar import write_captions
from fsgr_model.datasets.demo.pictures import Mask, Picture, draw_scene
from fsgr_model.datasets.demo.relations import box_of, find_relations
from fsgr_model.datasets.demo.scenes import Domain, Scene, sample_scene
from fsgr_model.datasets.demo.sprites import SPRITES
from fsgr_model.datasets.demo.world_file import WorldSpec, load_world
from fsgr_model.datasets.normal_form import CaptionRecord, Dataset, ImageRecord, Split
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.progress import progress
from fsgr_model.runtime.stopping import end_with_parent
from fsgr_model.text.segmenters import segment

IMAGES_PER_PROCESS = 250  # for fewer images another process is not worth its start
FIRST_CAPTION_ID = 1_000_001  # far from the image ids, so that a mix-up of the two finds nothing
FIRST_INSTANCE_ID = 5_000_001
FIRST_PRETRAINING_ID = 500_001  # a picture's random numbers come from its id

# What a picture may show: the combinations of a test domain; for "" all except the held-out ones.
PictureDomain = Domain | Literal[""]


@dataclass(frozen=True)
class Assignment:
    """A picture to draw: its id, split and domain; a picture without `domain` follows the rules of `seen`."""

    image_id: int
    split: Split
    domain: PictureDomain


@dataclass(frozen=True)
class Drawn:
    """A picture that was written, the texts of its captions, and its instances without ids."""

    record: ImageRecord
    texts: list[str]
    tokens: list[list[str]]
    instances: list[dict[str, Any]]


def draw_demo_world(
    world_file: Path,
    params: DemoWorldParams,
    seed: int,
    folder: Path,
    *,
    place: str,
    segmenter: Segmenter = "ptb",
) -> Dataset:
    """Draw every picture into `folder/images/` and return the dataset in the normal form.

    Each picture has its own random numbers, from `seed` and its id, so that the result does not depend on
    the number of processes. Paths in the manifest start with `place`, the final path of `folder`.

    Raises:
        UserError: the world file is missing or wrong, or names something that has no drawing.
    """
    return draw_pictures(
        _drawable(world_file),
        _assign(params),
        seed,
        folder,
        place=place,
        segmenter=segmenter,
        language=params.language,
    )


def draw_pretraining(
    world_file: Path,
    params: DemoWorldParams,
    seed: int,
    folder: Path,
    *,
    place: str,
    segmenter: Segmenter = "ptb",
) -> Dataset:
    """Draw the pictures that only CLIP trains on, which include held-out combinations, otherwise as
    `draw_demo_world`. All are of the training split.
    """
    ids = range(FIRST_PRETRAINING_ID, FIRST_PRETRAINING_ID + params.pretraining_images)
    assignments = [Assignment(image_id, "train", "any") for image_id in ids]
    return draw_pictures(
        _drawable(world_file),
        assignments,
        seed,
        folder,
        place=place,
        segmenter=segmenter,
        language=params.language,
    )


def draw_pictures(
    world: WorldSpec,
    assignments: list[Assignment],
    seed: int,
    folder: Path,
    *,
    place: str,
    processes: int | None = None,
    segmenter: Segmenter = "ptb",
    language: Language = "en",
) -> Dataset:
    """Draw the assigned pictures in `processes` processes; 1: in this process, None: one process per core.

    Raises:
        UserError: the world has no words of the language.
    """
    world.nouns(language)
    if processes is None:
        processes = max(1, min(os.cpu_count() or 1, len(assignments) // IMAGES_PER_PROCESS))
    (folder / "images").mkdir(parents=True, exist_ok=True)
    draw = partial(
        draw_one, world=world, seed=seed, folder=folder, place=place, segmenter=segmenter, language=language
    )
    drawn = list(progress(_map(draw, assignments, processes), len(assignments), "demo world", unit="images"))
    return _collect(categories(world, language), drawn)


def draw_one(
    assignment: Assignment,
    *,
    world: WorldSpec,
    seed: int,
    folder: Path,
    place: str,
    segmenter: Segmenter = "ptb",
    language: Language = "en",
) -> Drawn:
    """Sample, draw, caption and annotate one picture, and write its PNG file."""
    scene_rng, paint_rng, words_rng = np.random.default_rng([seed, assignment.image_id]).spawn(3)
    scene = sample_scene(world, scene_rng, assignment.domain or "seen")
    picture = draw_scene(scene, world.image, paint_rng)
    areas = Counter[int]()
    for thing, mask in zip(scene.things, picture.visible, strict=True):
        areas[thing.group] += int(np.count_nonzero(mask))
    by_size = [group for group, _ in areas.most_common()]
    relations = find_relations(scene, picture)
    texts = write_captions(world, scene, relations, by_size, rng=words_rng, language=language)
    return Drawn(
        record=_save(picture, assignment, folder, place),
        texts=texts,
        tokens=[segment(text, segmenter) for text in texts],
        instances=_instances(world, scene, picture),
    )


def categories(world: WorldSpec, language: Language = "en") -> list[dict[str, Any]]:
    """COCO categories with ids from 1: objects, then backgrounds; `synonyms` are the nouns of captions."""
    rows = []
    for category_id, (key, nouns) in enumerate(world.nouns(language).items(), start=1):
        above = "object" if key in world.objects else "background"
        rows.append({"id": category_id, "name": nouns[0], "supercategory": above, "synonyms": nouns})
    return rows


def _assign(params: DemoWorldParams) -> list[Assignment]:
    """Ids from 1, split after split; every second test picture is unseen."""
    splits: list[tuple[Split, PictureDomain]] = [("train", "") for _ in range(params.train_images)]
    splits += [("val", "") for _ in range(params.val_images)]
    splits += [("test", "unseen" if index % 2 else "seen") for index in range(params.test_images)]
    return [Assignment(image_id, split, domain) for image_id, (split, domain) in enumerate(splits, start=1)]


def _drawable(world_file: Path) -> WorldSpec:
    world = load_world(world_file)
    for what, names, drawings in (
        ("object", world.objects, SPRITES),
        ("background", world.backgrounds, PAINTERS),
        ("weather", world.weather, WEATHER),
    ):
        if missing := [name for name in names if name not in drawings]:
            where = "fsgr_model/datasets/demo"
            raise UserError(f"{world_file}: {what} {missing[0]!r} has no drawing in {where}; draw it there")
    return world


def _map(draw: Callable[[Assignment], Drawn], items: list[Assignment], processes: int) -> Iterator[Drawn]:
    if processes == 1:
        yield from map(draw, items)
        return
    spawn = get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, end_with_parent, (os.getpid(),)) as pool:
        yield from pool.map(draw, items, chunksize=25)


def _save(picture: Picture, assignment: Assignment, folder: Path, place: str) -> ImageRecord:
    buffer = io.BytesIO()
    picture.image.save(buffer, "PNG", compress_level=4)
    content = buffer.getvalue()
    name = f"images/{assignment.image_id:06d}.png"
    (folder / name).write_bytes(content)
    return ImageRecord(
        image_id=assignment.image_id,
        split=assignment.split,
        path=f"{place}/{name}",
        width=picture.image.width,
        height=picture.image.height,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        domain=assignment.domain,
    )


def _instances(world: WorldSpec, scene: Scene, picture: Picture) -> list[dict[str, Any]]:
    """Things from back to front with colour and size, then the background; visible pixels only."""
    ids = {key: category_id for category_id, key in enumerate(world.synonyms(), start=1)}
    rows = []
    for thing, mask in zip(scene.things, picture.visible, strict=True):
        group = scene.groups[thing.group]
        rows.append(_annotation(ids[group.kind], mask) | {"colour": group.colour, "size": group.size})
    return [*rows, _annotation(ids[scene.background], picture.background)]


def _annotation(category_id: int, mask: Mask) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    box = box_of(mask)
    return {
        "category_id": category_id,
        "bbox": [box.left, box.top, box.right - box.left, box.bottom - box.top],
        "area": int(np.count_nonzero(mask)),
        "iscrowd": 0,
        "segmentation": {
            "size": [int(n) for n in encoded["size"]],
            "counts": encoded["counts"].decode("ascii"),
        },
    }


def _collect(named: list[dict[str, Any]], drawn: list[Drawn]) -> Dataset:
    """The dataset of these pictures; `named`: the categories of their instances."""
    caption_ids, instance_ids = count(FIRST_CAPTION_ID), count(FIRST_INSTANCE_ID)
    captions = [
        CaptionRecord(each.record.image_id, next(caption_ids), text, tokens)
        for each in drawn
        for text, tokens in zip(each.texts, each.tokens, strict=True)
    ]
    annotations = [
        {"id": next(instance_ids), "image_id": each.record.image_id, **instance}
        for each in drawn
        for instance in each.instances
    ]
    return Dataset(
        images=[each.record for each in drawn],
        captions=captions,
        instances={"categories": named, "annotations": annotations},
        report=_report(drawn, len(captions), len(annotations)),
    )


def _report(drawn: list[Drawn], captions: int, annotations: int) -> dict[str, Any]:
    splits = Counter(each.record.split for each in drawn)
    return {
        "images": dict(splits),
        "captions": captions,
        "instances": annotations,
        "test_unseen": sum(each.record.domain == "unseen" for each in drawn),
        "distinct_captions": len({text for each in drawn for text in each.texts}),
        "words": len({token for each in drawn for tokens in each.tokens for token in tokens}),
    }
