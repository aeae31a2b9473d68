"""Reader of COCO instance files: objects with masks and categories, for the images of the dataset."""

from pathlib import Path
from typing import Any

from pydantic import ConfigDict
from typing_extensions import TypedDict

from fsgr_model.datasets.normal_form import ImageRecord
from fsgr_model.runtime.checked_json import Id, read_checked
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed

# Larger than any coordinate of a picture; NaN and infinity are not below it either.
LARGEST_COORDINATE = 1e6
KEEP_OTHER_KEYS = ConfigDict(extra="allow")


class Category(TypedDict):
    __pydantic_config__ = KEEP_OTHER_KEYS  # type: ignore[misc]
    id: Id
    name: str


class Instance(TypedDict):
    """Masks are kept as they are: polygons or run lengths."""

    __pydantic_config__ = KEEP_OTHER_KEYS  # type: ignore[misc]
    id: Id
    image_id: Id
    category_id: Id
    segmentation: list[Any] | dict[str, Any]


class InstanceImage(TypedDict):
    id: Id
    file_name: str
    width: int
    height: int


class InstanceFile(TypedDict):
    images: list[InstanceImage]
    categories: list[Category]
    annotations: list[Instance]


def read_instance_files(
    root: Path, names: list[str], images: list[ImageRecord]
) -> dict[str, list[dict[str, Any]]]:
    """COCO `categories` and `annotations` of the files below `root`, of our images only, sorted by id.

    If the files list only some of our images, these are in `images`: the objects of the others are unknown,
    which does not mean that they have none.

    Raises:
        UserError: a file is no COCO instance file, covers none of our images, gives one id to two things,
            or names an image whose file name or size differs from ours.
    """
    ours = {image.image_id: image for image in images}
    categories: dict[int, Any] = {}
    instances: dict[int, Any] = {}
    in_files: set[int] = set()
    for name in names:
        content = read_checked(root / name, InstanceFile)
        _check_same_images(root / name, content["images"], ours)
        in_files |= {image["id"] for image in content["images"]} & ours.keys()
        add_categories(root / name, content["categories"], categories)
        _take_instances(root / name, content["annotations"], ours, categories, instances=instances)
    found = {
        "categories": [categories[number] for number in sorted(categories)],
        "annotations": [instances[number] for number in sorted(instances)],
    }
    part = [{"id": image_id} for image_id in sorted(in_files)]
    return found | {"images": part} if 0 < len(part) < len(ours) else found


def _check_same_images(path: Path, listed_images: list[InstanceImage], ours: dict[int, ImageRecord]) -> None:
    shared = [(image, ours[image["id"]]) for image in listed_images if image["id"] in ours]
    if not shared:
        raise UserError(
            f"{path}: none of its image ids is in the caption files; its masks belong to other images"
        )
    named = [(theirs, our) for theirs, our in shared if not same_picture(theirs["file_name"], our.path)]
    if named:
        names = [
            f"image {our.image_id} is {theirs['file_name']} there, {our.path} here" for theirs, our in named
        ]
        raise UserError(f"{path}: its image ids are those of other images: {listed(names)}")
    sized = [
        (theirs, our)
        for theirs, our in shared
        if (theirs["width"], theirs["height"]) != (our.width, our.height)
    ]
    if sized:
        sizes = [
            f"image {our.image_id}: {theirs['width']}x{theirs['height']} there, {our.width}x{our.height} here"
            for theirs, our in sized
        ]
        raise UserError(
            f"{path}: its masks do not fit the images: {listed(sizes)}; leave dataset.instances empty"
        )


def same_picture(theirs: str, ours: str) -> bool:
    """Whether two file names denote the same picture, whatever their folders.

    COCO's 2014 release writes COCO_val2014_000000000042.jpg, that of 2017 000000000042.jpg.
    """
    first, second = Path(theirs).name, Path(ours).name
    return first == second or first.endswith(f"_{second}") or second.endswith(f"_{first}")


def add_categories(path: Path, found: list[Category], categories: dict[int, Any]) -> None:
    """Add the categories of the file `path` to `categories`, by id.

    Raises:
        UserError: one id has two names.
    """
    for category in found:
        known = categories.setdefault(category["id"], category)
        if known["name"] != category["name"]:
            raise UserError(
                f"{path}: category {category['id']} is called {category['name']!r} and {known['name']!r}; "
                "give each category one id"
            )


def _take_instances(
    path: Path,
    found: list[Instance],
    ours: dict[int, ImageRecord],
    categories: dict[int, Any],
    *,
    instances: dict[int, Any],
) -> None:
    """Add the instances of our images to `instances`, by their id."""
    wanted = [instance for instance in found if instance["image_id"] in ours]
    unknown = [instance["id"] for instance in wanted if instance["category_id"] not in categories]
    if unknown:
        raise UserError(f"{path}: instances of a category that is not listed: {listed(unknown)}")
    broken = [
        instance["id"]
        for instance in wanted
        if not _is_mask(instance["segmentation"], ours[instance["image_id"]])
    ]
    if broken:
        raise UserError(
            f"{path}: masks that are neither polygons (lists of at least 3 points x, y) nor run lengths that "
            f"fill their image, of instances {listed(broken)}; correct the file"
        )
    for instance in wanted:
        if instance["id"] in instances:
            raise UserError(f"{path}: duplicate instance id {instance['id']}; list each object once")
        instances[instance["id"]] = instance


def _is_mask(segmentation: list[Any] | dict[str, Any], image: ImageRecord) -> bool:
    """Whether pycocotools can decode it: that library does not check its input."""
    if isinstance(segmentation, list):
        return bool(segmentation) and all(map(_is_polygon, segmentation))
    counts = segmentation.get("counts")
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    return (
        segmentation.get("size") == [image.height, image.width]
        and isinstance(runs, list)
        and all(type(run) is int and run >= 0 for run in runs)
        and sum(runs) == image.height * image.width
    )


def _is_polygon(points: object) -> bool:
    return (
        isinstance(points, list)
        and len(points) >= 6
        and len(points) % 2 == 0
        and all(type(each) in (int, float) and abs(each) < LARGEST_COORDINATE for each in points)
    )


def _unpacked(counts: str) -> list[int] | None:
    """The run lengths of COCO's packed form, None if it is not that.

    A run is a signed number in groups of 5 bits, the lowest first, one character from '0' on per group, whose
    sixth bit says that another follows; from the fourth run on it is the difference to the run before the
    last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 64 or shift > 30:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return runs if shift == 0 else None
