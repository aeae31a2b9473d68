"""COCO instance files, read for CHAIR: objects and categories, which have to be of the scored images."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from fsgr_model.datasets.instances import Category, add_categories, same_picture
from fsgr_model.runtime.checked_json import Id, checked
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed
from fsgr_model.scoring.file_kinds import kind_of
from fsgr_model.scoring.result_file import read_json
from fsgr_model.scoring.same_images import few

FORM = "a COCO instance file has images, categories and annotations"
WITHOUT_IT = "give the file that goes with the references, or leave out --instances"


class _Image(TypedDict):
    id: Id
    file_name: NotRequired[str]


class _Object(TypedDict):
    image_id: Id
    category_id: Id


class _InstanceFile(TypedDict):
    images: NotRequired[list[_Image]]
    categories: list[Category]
    annotations: list[_Object]


def read_instances_of(
    path: Path, image_ids: Collection[int], names: Mapping[int, str]
) -> dict[str, list[dict[str, Any]]]:
    """COCO `categories` and `annotations` of an instance file that lists all these images.

    An object of an image that the file does not list would count as invented, so each has to be there.

    Args:
        image_ids: of the images that are scored.
        names: file names of the pictures by image id, where they are known.

    Raises:
        UserError: the file is malformed, lists none or not all of the images, or means other pictures by
            their ids.
    """
    value = read_json(path, FORM)
    if not isinstance(value, dict) or "categories" not in value:
        raise UserError(f"{path} has no `categories`; it is {kind_of(value)}; {FORM}")
    content: Any = checked(value, _InstanceFile, path)
    _check_images(path, _listed_images(content), image_ids, names)
    known: dict[int, Any] = {}
    add_categories(path, content["categories"], known)
    unknown = sorted({row["category_id"] for row in content["annotations"]} - known.keys())
    if unknown:
        raise UserError(f"{path}: objects of categories that it does not list: {listed(unknown)}")
    return {"categories": content["categories"], "annotations": content["annotations"]}


def _listed_images(content: Any) -> dict[int, str | None]:
    """Image id -> file name where there is one, of every image that is listed or has an object."""
    with_objects = dict.fromkeys(row["image_id"] for row in content["annotations"])
    return with_objects | {image["id"]: image.get("file_name") for image in content.get("images", [])}


def _check_images(
    path: Path, found: Mapping[int, str | None], image_ids: Collection[int], names: Mapping[int, str]
) -> None:
    missing = [image_id for image_id in image_ids if image_id not in found]
    if len(missing) == len(image_ids):
        raise UserError(
            f"{path} lists none of the scored images ({few(image_ids)}): its objects belong to other images; "
            f"{WITHOUT_IT}"
        )
    if missing:
        raise UserError(
            f"{path} lists {len(image_ids) - len(missing)} of the {len(image_ids)} scored images; without "
            f"{few(missing)} their objects would count as invented; {WITHOUT_IT}"
        )
    other = [
        f"image {image_id} is {found[image_id]} there, {names[image_id]} in the references"
        for image_id in image_ids
        if image_id in names and (theirs := found[image_id]) and not same_picture(theirs, names[image_id])
    ]
    if other:
        raise UserError(f"{path}: its image ids mean other images: {listed(other)}; {WITHOUT_IT}")
