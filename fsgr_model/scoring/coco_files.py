"""COCO-format caption files, read for scoring."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from fsgr_model.artifacts import sha256_file
from fsgr_model.datasets.checked_json import Id, read_checked
from fsgr_model.datasets.instances import Category
from fsgr_model.datasets.listing import listed
from fsgr_model.datasets.vizwiz import sift
from fsgr_model.errors import UserError
from fsgr_model.scoring.caption_tokens import Tokenizer
from fsgr_model.scoring.image_scores import ImageScores
from fsgr_model.scoring.provenance import Fact, cider_signature, package_versions, tokenizer_fact
from fsgr_model.scoring.report import Report, caption_report


class _Image(TypedDict):
    id: Id


class _Caption(TypedDict):
    image_id: Id
    caption: str


@dataclass(slots=True)
class _Reference:
    image_id: Id
    caption: str
    is_precanned: bool | None = None
    is_rejected: bool | None = None


class _CaptionFile(TypedDict):
    images: list[_Image]
    annotations: list[_Reference]


class ReferenceFile(NamedTuple):
    """Captions by image id. `note` says what was left out of the file; `bare` are the images that had no
    other captions, whose results are not scored either (VizWiz)."""

    texts: dict[int, list[str]]
    bare: frozenset[int]
    note: str

    def scored(self, results: dict[int, str]) -> dict[int, str]:
        """The results but those of images whose captions were all left out."""
        return {image_id: caption for image_id, caption in results.items() if image_id not in self.bare}


class _Object(TypedDict):
    image_id: Id
    category_id: Id


class _InstanceFile(TypedDict):
    categories: list[Category]
    annotations: list[_Object]


def read_results(path: Path) -> dict[int, str]:
    """A COCO result file: image id -> caption.

    Raises:
        UserError: the file is malformed, or an image has more than one caption.
    """
    rows = read_checked(path, list[_Caption])
    repeated = [image_id for image_id, count in Counter(row["image_id"] for row in rows).items() if count > 1]
    if repeated:
        raise UserError(
            f"{path}: every image needs exactly one caption; images with more: "
            f"{listed([str(image_id) for image_id in sorted(repeated)])}"
        )
    return {row["image_id"]: row["caption"] for row in rows}


def read_references(path: Path) -> ReferenceFile:
    """A COCO caption file: the captions of every image that it lists, but VizWiz's canned and rejected ones.

    Raises:
        UserError: the file is malformed, or a caption belongs to no image of the list.
    """
    content = read_checked(path, _CaptionFile)
    references: dict[int, list[str]] = {image["id"]: [] for image in content["images"]}
    strangers = {row.image_id for row in content["annotations"]} - references.keys()
    if strangers:
        raise UserError(
            f"{path}: captions of images that it does not list: "
            f"{listed([str(image_id) for image_id in sorted(strangers)])}"
        )
    sifted = sift(content["annotations"])
    for row in sifted.captions:
        references[row.image_id].append(row.caption)
    texts = {image_id: of_image for image_id, of_image in references.items() if image_id not in sifted.bare}
    return ReferenceFile(texts, sifted.bare, sifted.note(str(path)))


def score_files(
    references: Path,
    results: Path,
    instances: Path | None,
    meteor: Literal["auto", "off"],
    tokenizer: Tokenizer,
    spice: bool = False,
) -> tuple[Report, ImageScores]:
    """Scores of a result file as a JSON object, the caption part of what `evaluate` writes; and by image.

    Raises:
        UserError: a file is malformed, or the images of references and results differ.
    """
    objects: Any = read_checked(instances, _InstanceFile) if instances else None
    truth = read_references(references)
    found = truth.scored(read_results(results))
    report, by_image = caption_report(truth.texts, found, objects, meteor, tokenizer, spice)
    report["interval_95"] = by_image.intervals()
    report["provenance"] = [
        *([Fact(what="references", value=truth.note)] if truth.note else []),
        tokenizer_fact(tokenizer),
        Fact(what="CIDEr signature", value=cider_signature(tokenizer)),
        *[Fact(what=f"sha256 of {path}", value=sha256_file(path)) for path in (references, results)],
        *([Fact(what=f"sha256 of {instances}", value=sha256_file(instances))] if instances else []),
        *package_versions(),
    ]
    return report, by_image
