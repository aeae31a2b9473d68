"""What was found in a dataset, for `report.json` and for the terminal."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fsgr_model.datasets.image_check import described_group
from fsgr_model.datasets.normal_form import SPLITS, CaptionRecord, Dataset, ImageRecord
from fsgr_model.datasets.picture_folders import described_read
from fsgr_model.datasets.raw_form import RawImage
from fsgr_model.runtime.listing import listed

QUANTILES = {
    "shortest": 0.0,
    "5%": 0.05,
    "25%": 0.25,
    "median": 0.5,
    "75%": 0.75,
    "95%": 0.95,
    "longest": 1.0,
}


def count_splits(images: list[ImageRecord], captions: list[CaptionRecord]) -> dict[str, dict[str, int]]:
    """Images and captions of each split."""
    captions_of = Counter(caption.image_id for caption in captions)
    return {
        split: {
            "images": sum(image.split == split for image in images),
            "captions": sum(captions_of[image.image_id] for image in images if image.split == split),
        }
        for split in SPLITS
    }


def captions_per_image(captions: list[CaptionRecord]) -> dict[str, int]:
    """How many images have 1, 2, ... captions."""
    counts = Counter(Counter(caption.image_id for caption in captions).values())
    return {str(number): counts[number] for number in sorted(counts)}


def caption_lengths(captions: list[CaptionRecord]) -> dict[str, int]:
    """Quantiles of the number of tokens per caption."""
    lengths = sorted(len(caption.tokens) for caption in captions)
    return {name: lengths[round(share * (len(lengths) - 1))] for name, share in QUANTILES.items()}


def skipped_images(bad: list[tuple[RawImage, str]]) -> list[dict[str, Any]]:
    """The images that were left out, with the reason, sorted by id."""
    return [
        {"image_id": image.image_id, "split": image.split, "file_name": image.file_name, "reason": reason}
        for image, reason in sorted(bad, key=lambda pair: pair[0].image_id)
    ]


def duplicate_images(groups: list[list[ImageRecord]]) -> list[dict[str, Any]]:
    """Files with the same bytes; `across_splits` says that a test image may have been trained on."""
    return [
        {
            "images": [
                {"image_id": image.image_id, "split": image.split, "path": image.path} for image in group
            ],
            "across_splits": len({image.split for image in group}) > 1,
        }
        for group in groups
    ]


def dataset_report(
    dataset: Dataset,
    bad: list[tuple[RawImage, str]],
    groups: list[list[ImageRecord]],
    notes: Sequence[str] = (),
    *,
    read: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of `report.json`; the demo's own report is kept separate. `read`: see `count_read`."""
    with_objects = {annotation["image_id"] for annotation in dataset.instances["annotations"]}
    return {
        **({"read": read} if read else {}),
        "splits": count_splits(dataset.images, dataset.captions),
        "captions_per_image": captions_per_image(dataset.captions),
        "words_per_caption": caption_lengths(dataset.captions),
        "skipped_images": skipped_images(bad),
        "duplicate_images": duplicate_images(groups),
        "instances": {
            "categories": len(dataset.instances["categories"]),
            "objects": len(dataset.instances["annotations"]),
            "images_with_objects": len(with_objects),
        },
        **({"notes": list(notes)} if notes else {}),
        **({"demo": dataset.report} if dataset.report else {}),
    }


def print_summary(report: dict[str, Any], groups: list[list[ImageRecord]], place: Path) -> None:
    """The report in a few lines."""
    if "read" in report:
        print(f"read: {described_read(report['read'])}")
    for split, counts in report["splits"].items():
        print(f"{split}: {counts['images']} images, {counts['captions']} captions")
    histogram = ", ".join(
        f"{number} ({images} images)" for number, images in report["captions_per_image"].items()
    )
    words = report["words_per_caption"]
    print(f"captions per image: {histogram}; words: median {words['median']}, longest {words['longest']}")
    for note in report.get("notes", []):
        print(f"note: {note}")
    for image in report["skipped_images"]:
        print(
            f"left out: image {image['image_id']} ({image['split']}), {image['file_name']}: {image['reason']}"
        )
    if groups:
        print(f"files with the same bytes, all kept: {listed([described_group(group) for group in groups])}")
    if any(group["across_splits"] for group in report["duplicate_images"]):
        print("warning: some of them are in two splits, so scores include images that were trained on")
    print(f"full report: {place / 'report.json'}")
