"""COCO's result form: a JSON list of `{"image_id": 42, "caption": "a dog"}`, one caption per image."""

import hashlib
import reprlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from fsgr_model.runtime.artifacts import decoded, parse_json, read_bytes, read_text
from fsgr_model.runtime.checked_json import Id, checked
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed
from fsgr_model.scoring.file_kinds import kind_of

PHASES = ("xe", "scst")
# The network after SCST with members that choose words with it; only where there are some.
ENSEMBLE = "ensemble"
FORM = 'a result file is one JSON list of {"image_id": 42, "caption": "a dog"}'


class _Result(TypedDict):
    image_id: Id
    caption: str


def read_results(path: Path) -> dict[int, str]:
    """A COCO result file: image id -> caption.

    Raises:
        UserError: the file has another form, is empty, has ids or captions of another type, or has more than
            one caption of an image.
    """
    return results_of(read_json(path), path)


def read_results_and_sum(path: Path) -> tuple[dict[int, str], str]:
    """As `read_results`, and the hex SHA-256 of the file.

    Raises:
        UserError: as `read_results`.
    """
    content = read_bytes(path)
    rows = json_of(decoded(content, path), path)
    return results_of(rows, path), hashlib.sha256(content).hexdigest()


def read_phases(folder: Path, image_ids: Sequence[int]) -> dict[str, tuple[dict[int, str], str]]:
    """As `read_results_and_sum`, of the files of both phases, and of an ensemble if there is one.

    Raises:
        UserError: as `read_results`; or a file has the captions of other images.
    """
    files = {phase: folder / f"{phase}.json" for phase in PHASES}
    if (together := folder / f"{ENSEMBLE}.json").exists():
        files[ENSEMBLE] = together
    found = {phase: read_results_and_sum(file) for phase, file in files.items()}
    for phase, (results, _) in found.items():
        if odd := sorted(set(image_ids) ^ results.keys()):
            raise UserError(
                f"the captions of {phase} and the test images differ: {listed(odd)}; run dvc repro captions"
            )
    return found


def read_json(path: Path, form: str = FORM) -> Any:
    """The value of a JSON file that is not JSON lines; `form` says what it should be, for the message.

    Raises:
        UserError: it is empty, JSON lines, or no JSON.
    """
    return json_of(read_text(path), path, form)


def json_of(text: str, path: Path, form: str = FORM) -> Any:
    """As `read_json`, from the text of the file `path`."""
    if not text.strip():
        raise UserError(f"{path} is empty; {form}")
    if looks_like_lines(text):
        raise UserError(f"{path} is JSON lines, one object per line; {form}")
    return parse_json(text, str(path))


def looks_like_lines(text: str) -> bool:
    """Whether the first two lines that are not blank begin and end as objects do."""
    lines = [line.strip() for line in text[:100_000].split("\n") if line.strip()][:2]
    return len(lines) == 2 and lines[0].startswith("{") and lines[0].endswith("}") and lines[1][0] == "{"


def results_of(rows: Any, path: Path) -> dict[int, str]:
    """Image id -> caption, from the value of the file `path`.

    Raises:
        UserError: as `read_results`.
    """
    if not isinstance(rows, list):
        raise UserError(f"{path} is {kind_of(rows)}; {FORM}")
    if not rows:
        raise UserError(f"{path} has no captions: its list is empty")
    _check_rows(rows, path)
    results = checked(rows, list[_Result], path)
    counts = Counter(row["image_id"] for row in results)
    repeated = sorted(image_id for image_id, count in counts.items() if count > 1)
    if repeated:
        raise UserError(
            f"{path}: every image needs exactly one caption; images with more: {listed(repeated)}; keep one"
        )
    return {row["image_id"]: row["caption"] for row in results}


def _check_rows(rows: list[Any], path: Path) -> None:
    """Check that every row has both keys, a whole number and a text; the first violated rule is reported."""
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise UserError(f"{path}: entry {number} of the list is no object: {reprlib.repr(row)}; {FORM}")
        missing = [key for key in ("image_id", "caption") if key not in row]
        if missing:
            raise UserError(
                f"{path}: {missing[0]}: missing in entry {number} of the list, which has "
                f"{listed(list(row)) or 'nothing'}; {FORM}"
            )
    for key, rule, is_right in (
        ("image_id", "image_id must be a whole number as in the references, without quotes or a point", int),
        ("caption", "caption must be a text", str),
    ):
        odd = [
            f"{reprlib.repr(row[key])} (entry {number})"
            for number, row in enumerate(rows)
            if type(row[key]) is not is_right
        ]
        if odd:
            raise UserError(f"{path}: {rule}; found {listed(odd)}")
