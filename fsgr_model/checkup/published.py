"""How many images the published splits have, to recognise a partial or mixed-up file."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from fsgr_model.checkup.findings import Findings
from fsgr_model.config.dataset_params import CaptionFilesDataset, KarpathyDataset, M2Dataset, UserDataset
from fsgr_model.datasets.normal_form import SPLITS, Split

# Karpathy and Fei-Fei, arXiv 1412.2306; restval counted as training.
KARPATHY = {
    "dataset_coco.json": {"train": 113_287, "val": 5_000, "test": 5_000},
    "dataset_flickr8k.json": {"train": 6_000, "val": 1_000, "test": 1_000},
    "dataset_flickr30k.json": {"train": 29_000, "val": 1_014, "test": 1_000},
}
# COCO's release of 2017, and nocaps (arXiv 1812.08658).
CAPTION_FILES = {
    "captions_train2017.json": 118_287,
    "captions_val2017.json": 5_000,
    "image_info_test2017.json": 40_670,
    "nocaps_val_4500_captions.json": 4_500,
    "nocaps_test_image_info.json": 10_600,
}


@dataclass(frozen=True)
class Published:
    """The file that a split comes from, and how many images the complete file has."""

    file: str
    images: int


def published_splits(params: UserDataset) -> dict[Split, Published]:
    """The published splits by the names of the user's files; other files are left out."""
    if isinstance(params, KarpathyDataset):
        name = PurePosixPath(params.karpathy_file).name
        counts = KARPATHY.get(name, {})
        return {split: Published(name, counts[split]) for split in SPLITS if split in counts}
    if isinstance(params, M2Dataset) and not params.m2.partial:
        counts = KARPATHY["dataset_coco.json"]
        return {split: Published("coco_*_ids.npy", counts[split]) for split in SPLITS}
    if isinstance(params, CaptionFilesDataset) and params.format in ("coco", "nocaps"):
        names = {split: PurePosixPath(getattr(params.captions, split)).name for split in SPLITS}
        return {
            split: Published(name, CAPTION_FILES[name])
            for split, name in names.items()
            if name in CAPTION_FILES
        }
    return {}


def compare_with_published(params: UserDataset, images: dict[Split, int], findings: Findings) -> None:
    """Report each split whose size differs from that of the published file of the same name."""
    expected = published_splits(params)
    wrong = False
    for split, published in expected.items():
        if images[split] != published.images:
            wrong = True
            findings.problem(
                f"dataset: {published.file} as published has {published.images:,} images in {split}, found "
                f"{images[split]:,}; get the whole file, or give a file that is meant to differ another name"
            )
    if expected and not wrong:
        findings.fact("published", f"{', '.join(expected)}: as many images as published")
