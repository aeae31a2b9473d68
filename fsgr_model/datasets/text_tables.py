"""Readers of published tables without our column names: Flickr8k, Flickr30k, Conceptual Captions.

- Flickr8k.token.txt (Hodosh et al., JAIR 47, 2013: readme.txt of Flickr8k_text.zip) and Flickr30k's
  results_20130124.token (Young et al., TACL 2, 2014): `1000.jpg#0<TAB>a caption`; COCO-CN and Flickr8k-CN
  have the same form.
- Flickr30k's results.csv (kaggle.com/datasets/hsankesara/flickr-image-dataset): `1000.jpg| 0| a caption`,
  below the line `image_name| comment_number| comment`.
- Conceptual Captions (Sharma et al., ACL 2018) is published as `a caption<TAB>address`, without pictures;
  that is refused. The output of programs that download it is read: the name of a picture's file instead of
  the address or next to it, or open_clip's columns `title` and `filepath`
  (github.com/mlfoundations/open_clip, gather_cc.py).

No caption is quoted in any of them.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from fsgr_model.datasets.caption_lists import only_addresses
from fsgr_model.datasets.normal_form import Split
from fsgr_model.datasets.picture_kinds import is_picture_name
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed
from fsgr_model.text.lines import text_lines

# An image and its caption, and what was odd about the line, which is mostly empty.
Row = tuple[str, str, str]
TOKEN = re.compile(r"(?P<image>[^\t]+?)(?:#[a-z]+)?#[0-9]+[\t ](?P<caption>.*)")
RESULTS_HEADER = ["image_name", "comment_number", "comment"]
# One line of results.csv lacks its second bar: `2199200615.jpg| 4   A dog runs ...`.
RESULT = re.compile(r"(?P<image>[^|]+)\|\s*[0-9]+(?P<bar>\s*\||\s)\s*(?P<caption>.*)")
ADDRESS = re.compile(r"(?:https?|ftp)://.*", re.IGNORECASE)
ADDRESS_COLUMN = re.compile(r"(?:.*[_ ])?url", re.IGNORECASE)


def published_rows(path: Path) -> tuple[list[tuple[str, str]], list[str]] | None:
    """Images and captions in the order of the file, and notes; None for a table of another form.

    Raises:
        UserError: a line does not have the form of the first one, or there are addresses instead of pictures.
    """
    if not path.is_file() or path.suffix == ".json":
        return None
    reader = _reader(path)
    if reader is None:
        return None
    rows = list(reader(path))
    odd = [remark for _, _, remark in rows if remark]
    notes = [f"{path.name}: {len(rows)} captions read"]
    if odd:
        notes.append(f"{path.name}: lines that lack a bar, read without it: {listed(odd)}")
    return [(image, caption) for image, caption, _ in rows], notes


def _reader(path: Path) -> Callable[[Path], Iterator[Row]] | None:
    """The reader for a file that begins like this one."""
    try:
        _, first = next(text_lines(path), (0, ""))
    except UserError:
        return None  # the file is not text; the reader of other tables reports it
    if [cell.strip().lower() for cell in first.split("|")] == RESULTS_HEADER:
        return _results
    if TOKEN.fullmatch(first):
        return _tokens
    cells = first.split("\t")
    columns = [cell.strip().lower() for cell in cells]
    if {"filepath", "title"} <= set(columns):
        return lambda path: _columns(
            path, columns.index("filepath"), caption=columns.index("title"), count=len(columns), skipped=1
        )
    return _headless(path, first, cells)


def _headless(path: Path, first: str, cells: list[str]) -> Callable[[Path], Iterator[Row]] | None:
    """Conceptual Captions: the suffix in the first line shows which column has the pictures."""
    names = [place for place, cell in enumerate(cells) if is_picture_name(cell) and not ADDRESS.match(cell)]
    addresses = [place for place, cell in enumerate(cells) if ADDRESS.match(cell)]
    texts = [place for place in range(len(cells)) if place not in names + addresses]
    if len(cells) > 1 and len(names) == len(texts) == 1:
        return lambda path: _columns(path, names[0], caption=texts[0], count=len(cells), skipped=0)
    header = [cell.strip() for cell in re.split("[\t,]", first)]
    if (addresses and not names) or ("image" not in header and any(map(ADDRESS_COLUMN.fullmatch, header))):
        raise only_addresses(path, [cells[place] for place in addresses] or [first])
    return None


def _tokens(path: Path) -> Iterator[Row]:
    for number, line in text_lines(path):
        found = TOKEN.fullmatch(line)
        if found is None:
            raise _broken(path, number, line, "image.jpg#0<TAB>caption")
        name = found["image"]
        yield name if is_picture_name(name) or "." in name else f"{name}.jpg", found["caption"].strip(), ""


def _results(path: Path) -> Iterator[Row]:
    lines = text_lines(path)
    next(lines)
    for number, line in lines:
        found = RESULT.fullmatch(line)
        if found is None:
            raise _broken(path, number, line, "image.jpg| 0| caption")
        odd = "" if "|" in found["bar"] else str(number)
        yield found["image"].strip(), found["caption"].strip(), odd


def _columns(path: Path, image: int, *, caption: int, count: int, skipped: int) -> Iterator[Row]:
    for number, line in text_lines(path):
        if number <= skipped:
            continue
        cells = line.split("\t")
        if len(cells) != count or not cells[image].strip():
            raise _broken(path, number, line, f"{count} columns with a picture in column {image + 1}")
        yield cells[image].strip(), cells[caption].strip(), ""


def _broken(path: Path, number: int, line: str, form: str) -> UserError:
    return UserError(
        f"{path}: line {number} is not `{form}` as the first line is: {line[:200]!r}; correct it"
    )


def refuse_addresses(path: Path, images: list[str]) -> None:
    """Raise a UserError if a table names addresses of pictures."""
    addresses = [image for image in images if ADDRESS.match(image)]
    if addresses:
        raise only_addresses(path, addresses)


def read_split_lists(
    root: Path, lists: dict[Split, str], images: list[str]
) -> tuple[dict[str, Split], list[str]]:
    """The split of each image that a list names, and notes; `lists` are split -> file below `root`.

    Names are compared without the suffix of pictures, which some lists omit.

    Raises:
        UserError: an image is in two lists.
    """
    image_of = {_bare(image): image for image in images}
    split_of: dict[str, Split] = {}
    notes = []
    for split, name in lists.items():
        named = [line.strip() for _, line in text_lines(root / name)]
        unknown = [each for each in named if _bare(each) not in image_of]
        notes.append(f"{name}: {len(named)} images, {len(unknown)} of them not in the table")
        for image in (image_of[_bare(each)] for each in named if _bare(each) in image_of):
            if split_of.setdefault(image, split) != split:
                raise UserError(
                    f"{root / name}: splits overlap: {image} is in the lists of {split_of[image]} and "
                    f"{split}; keep each image in one"
                )
    return split_of, notes


def _bare(name: str) -> str:
    return name.rpartition(".")[0] if is_picture_name(name) else name
