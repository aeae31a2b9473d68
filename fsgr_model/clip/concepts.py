"""Names of concepts, from a text file or from the categories of the dataset."""

from collections import Counter
from pathlib import Path

from fsgr_model.datasets.normal_form import read_instances
from fsgr_model.runtime.artifacts import read_text
from fsgr_model.runtime.errors import UserError
from fsgr_model.text.lines import lines_of

# Label maps are stored as uint16.
MOST_CONCEPTS = 65_535


def dataset_concepts(dataset: Path) -> list[str]:
    """Names of the dataset's categories, by category id.

    Raises:
        UserError: it has none.
    """
    categories = sorted(read_instances(dataset)["categories"], key=lambda category: category["id"])
    if not categories:
        raise UserError(
            "codebook.concepts is dataset, but the dataset has no categories; name a text file with one "
            "concept per line, such as data/concepts/everyday.txt"
        )
    return _checked([category["name"] for category in categories], "the dataset's categories")


def read_concepts(path: Path) -> list[str]:
    """Concepts of a text file, one per line, without spaces at the ends.

    Raises:
        UserError: the file is missing, has an empty line, a repeated concept, or line ends but LF and CRLF.
    """
    if not path.exists():
        raise UserError(f"codebook.concepts: {path} does not exist; give a text file, or dataset")
    try:
        lines = lines_of(read_text(path))
    except UserError as error:
        raise UserError(f"codebook.concepts: {error}") from None
    _refuse_other_ends(lines, path)
    return _checked([line.strip() for line in lines], str(path))


def _refuse_other_ends(lines: list[str], path: Path) -> None:
    """Refuse characters that only some programs read as a line end; they would become part of a concept."""
    for number, line in enumerate(lines, start=1):
        first, *others = f"{line}.".splitlines()
        if others:
            raise UserError(
                f"codebook.concepts: {path}: line {number} holds {line[len(first)]!r}, which ends a line for "
                "some programs alone; save the file with plain line ends (LF or CRLF), one concept per line"
            )


def _checked(names: list[str], place: str) -> list[str]:
    empty = [number for number, name in enumerate(names, start=1) if not name]
    if empty:
        raise UserError(f"codebook.concepts: {place}: number {empty[0]} is empty; one concept per line")
    double = [name for name, count in Counter(names).items() if count > 1]
    if double:
        raise UserError(f"codebook.concepts: {place}: {double[:10]} occur more than once; remove the copies")
    if not 1 <= len(names) <= MOST_CONCEPTS:
        raise UserError(
            f"codebook.concepts: {place}: {len(names)} concepts; 1 to {MOST_CONCEPTS} are possible"
        )
    return names
