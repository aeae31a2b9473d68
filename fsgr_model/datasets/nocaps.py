"""Reader of nocaps (Agrawal et al., arXiv 1812.08658): trained on COCO captions, tested on novel objects.

nocaps brings no training captions. Its files are COCO-style, with a `domain` for each image: the image
shows only COCO's objects (in-domain), only others (out-domain), or both (near-domain). The validation file
has ten references per image, the test file has none.
"""

from dataclasses import replace
from pathlib import Path

from fsgr_model.config.dataset_params import PerSplit
from fsgr_model.datasets.coco import read_coco
from fsgr_model.datasets.numbering import IDS_BELOW, STEP
from fsgr_model.datasets.raw_form import RawDataset, RawImage
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed

DOMAINS = {"in-domain": "in", "near-domain": "near", "out-domain": "out"}
# nocaps counts images and captions from 0, and COCO uses the same small numbers. nocaps keeps its ids, which
# its server asks for; COCO's ids are raised.
COCO_IDS_FROM = STEP


def read_nocaps(root: Path, files: PerSplit, folders: PerSplit | None) -> RawDataset:
    """Training and validation images from COCO-style files, test images from a file of nocaps.

    Ids are those of the files; `make_ids_unique` raises those of training and validation by `COCO_IDS_FROM`.
    Domains are in, near and out.

    Raises:
        UserError: as `read_coco`; or a test image has another domain, or only some of them have one.
    """
    dataset = read_coco(root, files, folders)
    test = [image for image in dataset.images if image.split == "test"]
    _check_domains(root / files.test, test)
    _check_room_above(dataset)
    moved = (
        f"ids of training and validation are those of the files plus {COCO_IDS_FROM}; nocaps keeps its own"
    )
    images = [_with_domain(image) for image in dataset.images]
    return RawDataset(images, dataset.captions, [moved, *dataset.notes], test_apart=True)


def _check_room_above(dataset: RawDataset) -> None:
    """Ids of training and validation still fit in 64 bits after they have been moved."""
    ids = [image.image_id for image in dataset.images] + [each.annotation_id for each in dataset.captions]
    large = [each for each in ids if each + COCO_IDS_FROM >= IDS_BELOW]
    if large:
        raise UserError(
            f"ids of training and validation must be below 2^63 - {COCO_IDS_FROM}: {listed(large)}"
        )


def _with_domain(image: RawImage) -> RawImage:
    return replace(image, domain=DOMAINS.get(image.domain, "") if image.split == "test" else "")


def _check_domains(path: Path, images: list[RawImage]) -> None:
    """Every test image has one of the three domains, or none has any (the file of the test server)."""
    odd = [image for image in images if image.domain not in DOMAINS]
    if not odd or all(image.domain == "" for image in images):
        return
    raise UserError(
        f"{path}: domain must be one of {', '.join(DOMAINS)} for every image, or for none; found "
        + listed([f"{image.domain or 'none'!r} (image {image.image_id})" for image in odd])
        + "; use the file as nocaps.org gives it"
    )
