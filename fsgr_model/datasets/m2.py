"""Reader of the M2 Transformer's split files (Cornia et al., arXiv 1912.08226).

`coco_{train,restval,dev,test}_ids.npy` hold **annotation** ids of COCO caption files: five captions of each
image of Karpathy's split. Image ids are numbers of the same size, so a file is checked for them.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np

from fsgr_model.config.dataset_params import CaptionSource, M2Params
from fsgr_model.datasets.coco import CocoCaptionFile
from fsgr_model.datasets.contract import check_annotations_unique
from fsgr_model.datasets.normal_form import Split
from fsgr_model.datasets.raw_form import RawCaption, RawDataset, RawImage
from fsgr_model.runtime.checked_json import read_checked
from fsgr_model.runtime.errors import UserError, raise_if_refused
from fsgr_model.runtime.listing import listed

# restval: the part of COCO's validation images that the split uses for training.
SPLIT_OF: dict[str, Split] = {"train": "train", "restval": "train", "dev": "val", "test": "test"}
ID_FILES = {name: f"coco_{name}_ids.npy" for name in SPLIT_OF}
Ids = dict[str, list[int]]
# What NumPy raises for files that are not its own; MemoryError if a header claims absurd sizes.
NUMPY_ERRORS = (ValueError, EOFError, OSError, MemoryError, SyntaxError, TokenError, BadZipFile)


@dataclass(frozen=True)
class ListedImage:
    """An image of the caption file `source`; `file_name` is relative to the folder of the images."""

    image_id: int
    file_name: str
    source: str


@dataclass(frozen=True)
class CaptionFiles:
    """The contents of the caption files: images, and captions by annotation id.

    `all_captions` counts them, also those without an id. `shared`: ids of several files, with the files.
    """

    images: list[ListedImage]
    captions: dict[int, RawCaption]
    all_captions: int
    shared: dict[int, list[str]]


def read_m2(root: Path, params: M2Params) -> RawDataset:
    """The captions that the id files name, and their images; all others are left out.

    Raises:
        UserError: a file is missing or malformed, or an id file holds anything but annotation ids of the
            caption files.
    """
    known = read_caption_files(root, params.sources)
    ids = {name: read_id_file(root / params.ids / file) for name, file in ID_FILES.items()}
    check_each_id_once(ids)
    if params.partial:
        check_annotations_fit_better(ids, known)
    else:
        check_all_are_annotations(ids, known)
    check_ids_name_one_caption(ids, known)
    return select(ids, known)


def read_caption_files(root: Path, sources: list[CaptionSource]) -> CaptionFiles:
    """Everything that the caption files list, whichever split it belongs to.

    Raises:
        UserError: a file is missing, is not JSON, is not a COCO caption file, gives two captions the same
            id, or gives none of its captions an id.
    """
    images: list[ListedImage] = []
    captions: list[RawCaption] = []
    all_captions = 0
    for source in sources:
        content = read_checked(root / source.captions, CocoCaptionFile)
        images.extend(
            ListedImage(image.id, f"{source.images}/{image.file_name}", source.captions)
            for image in content.images
        )
        entries = content.annotations or []
        with_id = [
            RawCaption(entry.image_id, entry.id, entry.caption, source.captions)
            for entry in entries
            if entry.id is not None
        ]
        if entries and not with_id:
            raise UserError(
                f"{root / source.captions}: its annotations have no id, by which the coco_*_ids.npy files "
                "name captions; take the file that they were made from"
            )
        captions += with_id
        all_captions += len(entries)
    check_annotations_unique(captions)
    by_id = {caption.annotation_id: caption for caption in captions}
    return CaptionFiles(images, by_id, all_captions, _shared(captions))


def _shared(captions: list[RawCaption]) -> dict[int, list[str]]:
    """For each annotation id that occurs in several files, these files."""
    sources: dict[int, list[str]] = {}
    for caption in captions:
        sources.setdefault(caption.annotation_id, []).append(caption.source)
    return {number: files for number, files in sources.items() if len(files) > 1}


def read_id_file(path: Path) -> list[int]:
    """The ids of a NumPy file, a list of whole numbers.

    Raises:
        UserError: the file is missing or holds something else.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist; dataset.m2.ids is the folder of the four coco_*_ids.npy files"
        ) from None
    except NUMPY_ERRORS as error:
        raise_if_refused(error, path)
        raise UserError(f"{path} is not a NumPy file ({error}); download or make it again") from None
    if not isinstance(found, np.ndarray) or found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise UserError(f"{path} must hold one list of whole numbers; download or make it again")
    return found.tolist()


def check_each_id_once(ids: Ids) -> None:
    """Every id occurs only once in all four files together."""
    places: dict[int, list[str]] = {}
    for name, of_file in ids.items():
        for each in of_file:
            places.setdefault(each, []).append(name)
    repeated = [f"{each} ({', '.join(names)})" for each, names in places.items() if len(names) > 1]
    if repeated:
        raise UserError(
            f"ids that occur twice in the coco_*_ids.npy files: {listed(repeated)}; keep one of each"
        )


def check_ids_name_one_caption(ids: Ids, known: CaptionFiles) -> None:
    """No id of the four files belongs to captions of two caption files, each with its own numbering."""
    for name, of_file in ids.items():
        unclear = [f"{each} ({', '.join(known.shared[each])})" for each in of_file if each in known.shared]
        if unclear:
            raise UserError(
                f"coco_{name}_ids.npy: {len(unclear)} of {len(of_file)} ids are ids of annotations in two "
                f"caption files: {listed(unclear)}; if the files share captions, leave one of them out of "
                "dataset.m2.sources, else give all annotations unique ids, then make the id files"
            )


def check_all_are_annotations(ids: Ids, known: CaptionFiles) -> None:
    """Every id is that of an annotation; the message distinguishes image ids, a mixture and missing files."""
    image_ids = {image.image_id for image in known.images}
    for name, of_file in ids.items():
        strange = [each for each in of_file if each not in known.captions]
        if strange:
            among_images = sum(each in image_ids for each in strange)
            raise UserError(
                f"coco_{name}_ids.npy: {len(strange)} of {len(of_file)} ids are not ids of annotations in "
                f"{listed(sorted({image.source for image in known.images}))}: {listed(strange)}; "
                + _explanation(among_images, len(strange), all(each in image_ids for each in of_file))
            )


def _explanation(among_images: int, strange: int, all_images: bool) -> str:
    if all_images:
        return "all ids of the file are image ids; it must hold the `id` of annotations, not their `image_id`"
    if among_images == strange:
        return (
            "these are image ids, mixed with annotation ids; make the file from the `id` of annotations alone"
        )
    return (
        f"{among_images} of them are image ids; a caption file may be missing from dataset.m2.sources; "
        "or set dataset.m2.partial: true if only a part of the captions is wanted"
    )


def check_annotations_fit_better(ids: Ids, known: CaptionFiles) -> None:
    """If caption files hold only a part of the ids, these must match more annotation ids than image ids.

    Both kinds of ids are drawn from the same range, so some always match by chance; the right kind matches
    nearly all that the caption files hold.
    """
    named = {each for of_file in ids.values() for each in of_file}
    image_ids = {image.image_id for image in known.images}
    annotations = len(named & known.captions.keys()) / max(len(known.captions), 1)
    images = len(named & image_ids) / max(len(image_ids), 1)
    if annotations <= images:
        raise UserError(
            f"the coco_*_ids.npy files name {annotations:.1%} of the annotations by their `id`, but "
            f"{images:.1%} of the images by theirs: they look like image ids; make them from the `id` of "
            "annotations"
        )


def select(ids: Ids, known: CaptionFiles) -> RawDataset:
    """The captions of each split and their images.

    An image with captions in two splits is listed in both, so that the contract refuses it.
    """
    captions: list[RawCaption] = []
    splits: dict[tuple[str, int], set[Split]] = {}
    for name, of_file in ids.items():
        for caption in (known.captions[each] for each in of_file if each in known.captions):
            captions.append(caption)
            splits.setdefault((caption.source, caption.image_id), set()).add(SPLIT_OF[name])
    images = [
        RawImage(image.image_id, split, image.file_name, image.source)
        for image in known.images
        for split in sorted(splits.get((image.source, image.image_id), ()))
    ]
    return RawDataset(images, captions, _notes(ids, known, captions))


def _notes(ids: Ids, known: CaptionFiles, captions: list[RawCaption]) -> list[str]:
    """How many captions and images of each file were found, and how many no id file names."""
    chosen = {caption.annotation_id: (caption.source, caption.image_id) for caption in captions}
    notes = []
    for name, of_file in ids.items():
        found = [each for each in of_file if each in chosen]
        images = len({chosen[each] for each in found})
        notes.append(f"coco_{name}_ids.npy: {len(found)} of {len(of_file)} captions, of {images} images")
    per_image = Counter(chosen.values())
    notes.append(
        f"left out, since no id file names them: {known.all_captions - len(chosen)} captions, "
        f"{len(known.images) - len(per_image)} images"
    )
    return notes
