"""Makes ids that are unique in the whole dataset from the ids of its files.

An id belongs to its file: many programs count from 1 in the file of each split. Everything after the reader
identifies an image by its id alone, so an id that several files use is kept in one of them and changed in the
others.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count

from fsgr_model.datasets.normal_form import ImageRecord
from fsgr_model.datasets.raw_form import RawDataset
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed

# The least that is added to an id that changes.
STEP = 1_000_000_000
IDS_BELOW = 2**63
RANK = {"test": 0, "val": 1, "train": 2}
# An id by its file and its number there.
Listed = tuple[str, int]


@dataclass(frozen=True)
class Numbered:
    """The dataset with a unique id for each image and each caption.

    `moved`: for each image that shared its id with one of another file, its new id and the shared one.
    """

    raw: RawDataset
    moved: dict[int, int]


def make_ids_unique(raw: RawDataset) -> Numbered:
    """Give each image and each caption a unique id; ids that only one file uses are kept.

    If several files use an id, the test split keeps it, since result files are submitted with it, or else the
    validation split does. In the k-th other file k * 10^n is added: 10^n is above all ids, and at least
    `STEP`. Annotation ids of a file change together, since captions of an image are ordered by their ids.
    With `raw.test_apart` all ids except those of the test files are first raised by `STEP`.

    Raises:
        UserError: ids are so large that the changed ones would not fit in 64 bits.
    """
    offsets = _offsets(raw)
    images = _moves("image ids", offsets, ((each.source, each.image_id) for each in raw.images))
    listed_ids = ((each.source, each.annotation_id) for each in raw.captions)
    captions = _moves("annotation ids", offsets, listed_ids, together=True)
    if not images and not captions and not any(offsets.values()):
        return Numbered(raw, {})

    def place(source: str, number: int, moves: dict[Listed, int]) -> int:
        return moves.get((source, number), number + offsets.get(source, 0))

    numbered = RawDataset(
        [replace(each, image_id=place(each.source, each.image_id, images)) for each in raw.images],
        [
            replace(
                each,
                image_id=place(each.source, each.image_id, images),
                annotation_id=place(each.source, each.annotation_id, captions),
            )
            for each in raw.captions
        ],
        [*raw.notes, *_notes("image ids", images), *_notes("annotation ids", captions)],
    )
    return Numbered(
        numbered, {new: number + offsets.get(source, 0) for (source, number), new in images.items()}
    )


def _offsets(raw: RawDataset) -> dict[str, int]:
    """What is added to the ids of each file: files with test images come first, then those of validation."""
    ranks: dict[str, int] = {}
    for image in raw.images:
        ranks[image.source] = min(RANK[image.split], ranks.get(image.source, RANK["train"]))
    sources = sorted(ranks, key=lambda source: ranks[source])
    return {source: STEP if raw.test_apart and ranks[source] else 0 for source in sources}


def _moves(
    what: str, offsets: dict[str, int], listed_ids: Iterable[Listed], *, together: bool = False
) -> dict[Listed, int]:
    """The new id of each id that would denote two things; with `together`, of its file's other ids too."""
    ids: dict[str, set[int]] = {source: set() for source in offsets}
    for source, number in listed_ids:
        ids.setdefault(source, set()).add(number + offsets.get(source, 0))
    step = max(STEP, 10 ** len(str(max((max(each, default=0) for each in ids.values()), default=0))))
    taken: set[int] = set()
    moves: dict[Listed, int] = {}
    for rank, (source, numbers) in enumerate(ids.items()):
        offset, shared = offsets.get(source, 0), numbers & taken
        moving = numbers if together and shared else shared
        moves |= {(source, number - offset): number - offset + rank * step for number in moving}
        taken |= numbers
    if max(moves.values(), default=0) >= IDS_BELOW:
        raise UserError(
            f"{what} are used again in {listed(sorted({source for source, _ in moves}))}, and are too "
            "large to be made unique; number them uniquely over all files"
        )
    return moves


def _notes(what: str, moves: dict[Listed, int]) -> Iterator[str]:
    """How many ids of each file changed, and by how much."""
    for source in dict.fromkeys(source for source, _ in moves):
        moved = {number: new for (file, number), new in moves.items() if file == source}
        first = min(moved)
        yield (
            f"{source}: {what} are those of another file too; {moved[first] - first} was added to "
            f"{len(moved)} of them ({first} is {moved[first]})"
        )


def refuse_masks(numbered: Numbered, instances: list[str]) -> None:
    """Raise a UserError if one id denotes several images, since masks name images only by their ids."""
    if instances and numbered.moved:
        raise UserError(
            "dataset.instances: image ids are used again in several caption files, so a mask of image "
            f"{min(numbered.moved.values())} in {listed(instances)} could be that of several images; number "
            "the images uniquely over all files, or set dataset.instances: []"
        )


def refuse_same_pictures(images: list[ImageRecord], moved: dict[int, int]) -> None:
    """Raise a UserError if images of two splits share an id and the bytes: they are the same image."""
    groups: dict[tuple[int, str], list[ImageRecord]] = defaultdict(list)
    for image in images if moved else []:
        groups[moved.get(image.image_id, image.image_id), image.sha256].append(image)
    across = [
        f"{number} ({', '.join(f'{image.path}, {image.split}' for image in group)})"
        for (number, _), group in groups.items()
        if len({image.split for image in group}) > 1
    ]
    if across:
        raise UserError(
            "splits overlap: the same image id and the same picture are in two of train, val and test: "
            f"{listed(across)}; keep each image in one split"
        )


def fill_missing_ids(ids: Iterable[int | None]) -> list[int]:
    """Ids for the annotations of one file: those without one get the smallest unused numbers from 1."""
    given = list(ids)
    taken = set(given)
    fresh = (number for number in count(1) if number not in taken)
    return [next(fresh) if each is None else each for each in given]
