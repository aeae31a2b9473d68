"""Caption files and result files, read for scoring."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NotRequired

from pydantic.dataclasses import dataclass as checked_dataclass
from typing_extensions import TypedDict

from fsgr_model.datasets.karpathy import karpathy_dataset
from fsgr_model.datasets.normal_form import SPLITS, Split
from fsgr_model.datasets.vizwiz import sift
from fsgr_model.runtime.artifacts import sha256_file
from fsgr_model.runtime.checked_json import Id, checked
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed
from fsgr_model.scoring.caption_tokens import Tokenizer
from fsgr_model.scoring.file_kinds import CAPTION_FILE, KARPATHY, NO_CAPTIONS, is_karpathy, kind_of
from fsgr_model.scoring.image_scores import ImageScores
from fsgr_model.scoring.instance_file import read_instances_of
from fsgr_model.scoring.provenance import Fact, cider_signature, package_versions, tokenizer_fact
from fsgr_model.scoring.report import Report, add_intervals, caption_report, references_fingerprint
from fsgr_model.scoring.result_file import read_json, read_results
from fsgr_model.scoring.same_images import check_images, with_results

REFERENCE_FORM = f"references are {CAPTION_FILE} (images, annotations) or {KARPATHY}"
SplitChoice = Literal[Split, "all"]
SPLIT_CHOICES: tuple[SplitChoice, ...] = (*SPLITS, "all")


class _Image(TypedDict):
    id: Id
    file_name: NotRequired[str]


@checked_dataclass(slots=True)
class _Caption:
    image_id: Id
    caption: str
    is_precanned: bool | None = None
    is_rejected: bool | None = None


class _CaptionFile(TypedDict):
    images: list[_Image]
    annotations: list[_Caption]


@dataclass(frozen=True)
class ReferenceFile:
    """Captions by image id, of every image of the file or of its split; and the names of the pictures.

    `facts`: which part of the file these are. `split` is None where the file has none. `bare` are images all
    of whose captions were left out (VizWiz); their results are not scored either.
    """

    path: Path
    texts: dict[int, list[str]]
    names: dict[int, str]
    facts: list[Fact] = field(default_factory=list)
    split: SplitChoice | None = None
    bare: frozenset[int] = frozenset()

    def fingerprint(self, image_ids: Collection[int]) -> str:
        """The fingerprint of the captions of those of these images that have references."""
        return references_fingerprint(
            {image_id: self.texts[image_id] for image_id in image_ids if image_id in self.texts}
        )

    def scored(self, results: dict[int, str]) -> dict[int, str]:
        """The results without those of images whose captions were all left out."""
        return {image_id: caption for image_id, caption in results.items() if image_id not in self.bare}

    def scored_with(self, results: dict[int, str], *, subset: bool) -> "ReferenceFile":
        """Those of the images that are scored: of all, or, with `subset`, of those that have a result.

        Raises:
            UserError: an image lacks references or, without `subset`, a result.
        """
        texts = with_results(self.texts, results) if subset else self.texts
        try:
            # Whether the results belong to entirely different images is checked against all references.
            check_images(texts or self.texts, results)
        except UserError as error:
            which = f"--split {self.split} of " if self.split else ""
            raise UserError(f"{error}; the references are {which}{self.path}") from None
        if not subset:
            return self
        fact = Fact(what="subset", value=f"{len(texts)} of {len(self.texts)} images, those with a result")
        return replace(self, texts=texts, facts=[*self.facts, fact])


def read_reference_file(path: Path, split: SplitChoice | None = None) -> ReferenceFile:
    """A COCO caption file, or the images of one split of Karpathy's file (`test` if none is named).

    Raises:
        UserError: the file is malformed, has no such split, or none at all although one is named.
    """
    value = read_json(path, REFERENCE_FORM)
    if is_karpathy(value):
        return _of_karpathy(value, path, split or "test")
    if split is not None:
        raise UserError(f"{path} is {kind_of(value)}, which has no splits; leave out --split")
    content = _caption_file(value, path)
    names = {image["id"]: image["file_name"] for image in content["images"] if "file_name" in image}
    texts, bare, note = _captions_of(content, path)
    facts = [Fact(what="references", value=note)] if note else []
    return ReferenceFile(path, texts, names, facts, bare=bare)


def _of_karpathy(value: Any, path: Path, split: SplitChoice) -> ReferenceFile:
    raw = karpathy_dataset(value, path, path.name)
    images = [image for image in raw.images if split in ("all", image.split)]
    if not images:
        has = sorted({image.split for image in raw.images})
        raise UserError(f"{path} has no images of split {split}, but of {listed(has)}; name one by --split")
    texts: dict[int, list[str]] = {image.image_id: [] for image in images}
    for caption in raw.captions:
        if caption.image_id in texts:
            texts[caption.image_id].append(caption.text)
    fact = Fact(what="split of the references", value=f"{split}: {len(texts)} of {len(raw.images)} images")
    names = {image.image_id: image.file_name for image in images}
    return ReferenceFile(path, texts, names, [fact], split)


def _caption_file(value: Any, path: Path) -> _CaptionFile:
    """`value`, the content of the file `path`, in the form of COCO's caption files."""
    kind = kind_of(value)
    if kind not in (CAPTION_FILE, NO_CAPTIONS) or "annotations" not in value:
        raise UserError(f"{path} is {kind}; {REFERENCE_FORM}")
    return checked(value, _CaptionFile, path)


def _captions_of(content: _CaptionFile, path: Path) -> tuple[dict[int, list[str]], frozenset[int], str]:
    """Image id -> captions, of every image that a caption file lists, without VizWiz's canned and rejected;
    the images that have no other captions, and what was left out.

    Raises:
        UserError: a caption belongs to no image of the list.
    """
    references: dict[int, list[str]] = {image["id"]: [] for image in content["images"]}
    strangers = {row.image_id for row in content["annotations"]} - references.keys()
    if strangers:
        raise UserError(f"{path}: captions of images that it does not list: {listed(sorted(strangers))}")
    sifted = sift(content["annotations"])
    for row in sifted.captions:
        references[row.image_id].append(row.caption)
    texts = {image_id: of_image for image_id, of_image in references.items() if image_id not in sifted.bare}
    return texts, sifted.bare, sifted.note(str(path))


@dataclass(frozen=True)
class ScoredFiles:
    """The settings of a score.

    `split`: of Karpathy's file. `subset`: the results may be of a part of the references' images.
    """

    references: Path
    results: Path
    instances: Path | None = None
    split: SplitChoice | None = None
    subset: bool = False


def score_files(
    files: ScoredFiles, *, meteor: Literal["auto", "off"], tokenizer: Tokenizer, spice: bool = False
) -> tuple[Report, ImageScores]:
    """Scores of a result file as a JSON object, the caption part of what `evaluate` writes; and by image.

    Raises:
        UserError: a file is malformed, or the images of references, results and instances differ.
    """
    references = read_reference_file(files.references, files.split)
    results = references.scored(read_results(files.results))
    references = references.scored_with(results, subset=files.subset)
    objects = (
        read_instances_of(files.instances, results.keys(), references.names) if files.instances else None
    )
    report, by_image = caption_report(
        references.texts, results, objects, meteor, tokenizer=tokenizer, spice=spice
    )
    add_intervals(report, by_image)
    named = [path for path in (files.references, files.results, files.instances) if path]
    report["provenance"] = [
        tokenizer_fact(tokenizer),
        Fact(what="CIDEr signature", value=cider_signature(tokenizer)),
        *references.facts,
        *[Fact(what=f"sha256 of {path}", value=sha256_file(path)) for path in named],
        *package_versions(),
    ]
    return report, by_image
