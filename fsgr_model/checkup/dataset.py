"""Checks the user's dataset against all rules of stage `dataset`, and reports every one that is broken."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fsgr_model.checkup.findings import Findings
from fsgr_model.checkup.needed_files import check_all_json, check_files
from fsgr_model.checkup.pictures import Decoding, check_pictures, check_shards
from fsgr_model.checkup.published import compare_with_published
from fsgr_model.config.dataset_params import DatasetParams, DemoDataset, ShardDataset, UserDataset
from fsgr_model.config.text_params import Segmenter
from fsgr_model.datasets import contract
from fsgr_model.datasets.demo.world_file import load_world
from fsgr_model.datasets.instances import InstanceFile
from fsgr_model.datasets.normal_form import SPLITS, Split
from fsgr_model.datasets.numbering import make_ids_unique, refuse_masks
from fsgr_model.datasets.picture_folders import count_read, described_read
from fsgr_model.datasets.raw_form import RawDataset
from fsgr_model.datasets.reading import (
    caption_records,
    file_names_root,
    folders_below,
    image_folders,
    read_files,
)
from fsgr_model.datasets.shards import Shards, read_shards
from fsgr_model.runtime.checked_json import read_checked
from fsgr_model.runtime.errors import UserError
from fsgr_model.text.segmenters import check_segmenter, segment

RULES: tuple[Callable[[RawDataset], None], ...] = (
    lambda raw: contract.check_splits_filled(raw.images),
    lambda raw: contract.check_file_names_stay_below(raw.images),
    lambda raw: contract.check_images_unique(raw.images),
    contract.check_captions_have_images,
    lambda raw: contract.check_annotations_unique(raw.captions),
    contract.check_images_have_captions,
    lambda raw: _check_captions_have_words(raw),
)
LETTER_OR_DIGIT = re.compile(r"[^\W_]")


@dataclass(frozen=True)
class DatasetSize:
    """The sizes that the cost of later stages depends on.

    `words`: the words of the training captions with their counts; empty for the demo. The default tokenizer
    stands aside for a faster split at blanks.
    `longest`: words of the longest of them. `unpacked`: bytes of pictures that come out of tar files.
    """

    images: dict[Split, int]
    captions_per_image: int
    longest: int
    words: Counter[str]
    captions: int
    categories: int = 0
    unpacked: int = 0
    decoding: Decoding | None = None

    @property
    def all_images(self) -> int:
        return sum(self.images.values())


def check_dataset(
    params: DatasetParams,
    all_images: bool,
    workers: int,
    findings: Findings,
    *,
    segmenter: Segmenter = "ptb",
) -> DatasetSize | None:
    """Check everything; None if the lists of images cannot be read. `segmenter` divides the captions.

    Raises:
        UserError: the segmenter is not installed.
    """
    check_segmenter(segmenter)
    if not check_files(params, findings):
        check_all_json(params, findings)
        return None
    try:
        if isinstance(params, DemoDataset):
            return _demo_size(params, findings)
        raw, shards = read_lists(params)
    except UserError as error:
        findings.problem(str(error))
        check_all_json(params, findings)
        return None
    for rule in RULES:
        with findings.collected():
            rule(raw)
    _tell_folders(params, raw, findings)
    with findings.collected():
        numbered = make_ids_unique(raw)
        raw = numbered.raw
        refuse_masks(numbered, params.instances)
    size = _size(raw, 0 if shards is None else shards.bytes, segmenter)
    _tell_counts(size, findings)
    compare_with_published(params, size.images, findings)
    categories = _check_instances(params, raw, findings)
    decoding = (
        check_pictures(raw.images, params, all_images, workers, findings=findings)
        if shards is None
        else check_shards(shards.places, params, all_images, findings)
    )
    return replace(size, categories=categories, decoding=decoding)


def read_lists(params: UserDataset) -> tuple[RawDataset, Shards | None]:
    """Read the lists of any format except the demo, as stage `dataset` does; nothing is unpacked.

    Raises:
        UserError: a file is not of its format.
    """
    root = Path(params.root)
    if isinstance(params, ShardDataset):
        shards = read_shards(root, params.shards)
        return shards.raw, shards
    return read_files(params, root), None


def _size(raw: RawDataset, unpacked: int, segmenter: Segmenter) -> DatasetSize:
    images = Counter(image.split for image in raw.images)
    training = {image.image_id for image in raw.images if image.split == "train"}
    of_image: Counter[int] = Counter()
    words: Counter[str] = Counter()
    longest = 0
    for caption in raw.captions:
        if caption.image_id in training:
            spoken = caption.text.lower().split() if segmenter == "ptb" else segment(caption.text, segmenter)
            words.update(spoken)
            of_image[caption.image_id] += 1
            longest = max(longest, len(spoken))
    return DatasetSize(
        {split: images[split] for split in SPLITS},
        max(of_image.values(), default=1),
        longest,
        words,
        unpacked=unpacked,
        captions=len(raw.captions),
    )


def _tell_counts(size: DatasetSize, findings: Findings) -> None:
    counts = ", ".join(f"{split} {count:,}" for split, count in size.images.items())
    findings.fact("images", f"{counts}; {size.captions:,} captions")


def _tell_folders(params: UserDataset, raw: RawDataset, findings: Findings) -> None:
    root = Path(params.root)
    parts = folders_below(params)
    if parts and all((root / name).is_dir() for name in image_folders(params)):
        findings.fact("read", described_read(count_read(raw, file_names_root(params), parts)))


def _check_instances(params: UserDataset, raw: RawDataset, findings: Findings) -> int:
    """How many categories the mask files name. Sizes of masks and images are compared by the stage only."""
    ours = {image.image_id for image in raw.images}
    categories: set[int] = set()
    for path in (Path(params.root) / name for name in params.instances):
        if not path.is_file():
            continue  # is a problem already
        with findings.collected():
            content = read_checked(path, InstanceFile)
            categories |= {category["id"] for category in content["categories"]}
            shared = len(ours & {image["id"] for image in content["images"]})
            findings.fact("masks", f"{path}: of {shared:,} of the images")
            if not shared:
                raise UserError(
                    f"dataset.instances: {path} has none of the image ids of the captions; its masks belong "
                    "to other images, give the file that goes with the captions"
                )
    return len(categories)


def _check_captions_have_words(raw: RawDataset) -> None:
    """Only captions without a letter or digit need to be tokenized: all others have a word."""
    caption_records([caption for caption in raw.captions if not LETTER_OR_DIGIT.search(caption.text)])


def _demo_size(params: DemoDataset, findings: Findings) -> DatasetSize:
    world = load_world(Path(params.root) / params.watch)
    counts = (params.demo.train_images, params.demo.val_images, params.demo.test_images)
    nouns = world.nouns(params.demo.language)
    # No tokenizer makes more words of a Chinese caption than it has characters.
    chinese = world.chinese if params.demo.language == "zh" else None
    size = DatasetSize(
        dict(zip(SPLITS, counts, strict=True)),
        world.captions.per_image,
        chinese.characters[1] if chinese else world.captions.words[1],
        Counter(),
        captions=world.captions.per_image * sum(counts),
        categories=len(nouns),
    )
    _tell_counts(size, findings)
    return size
