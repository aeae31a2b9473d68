"""Which images are scored: those of the references, each with one result; or those with a result."""

from collections.abc import Collection, Mapping, Sequence

from fsgr_model.runtime.errors import UserError

MOST_LISTED = 10
References = dict[int, list[str]]


def check_images(references: Mapping[int, Sequence[str]], results: Mapping[int, str]) -> None:
    """Check that every image has references and a result.

    Raises:
        UserError: some images lack one; each is listed once, with what it lacks.
    """
    if not results or not references:
        empty = "results" if references else "references" if results else "references and the results"
        raise UserError(f"there are no captions to score: the {empty} list no image")
    check_any_shared(results, references, "the references")
    bare = {image_id for image_id, texts in references.items() if not texts}
    problems = [
        f"{len(ids)} images {what}: {few(ids)}"
        for ids, what in (
            (results.keys() - references.keys(), "have a result but no references"),
            (bare & results.keys(), "have a result but an empty list of references"),
            (references.keys() - bare - results.keys(), "have references but no result"),
            (bare - results.keys(), "have neither a reference nor a result"),
        )
        if ids
    ]
    if problems:
        shared = len(references.keys() & results.keys() - bare)
        part = results.keys() <= references.keys() - bare
        remedy = f"--subset scores the {shared} images that have a result" if part else ""
        rule = "every image needs references and one result"
        raise UserError("; ".join(filter(None, (rule, *problems, remedy))))


def check_any_shared(found: Collection[int], known: Collection[int], where: str) -> None:
    """Refuse ids that all belong to other images.

    Args:
        found: ids of results.
        known: ids of the images that they should belong to, which `where` lists.

    Raises:
        UserError: not a single id is among them.
    """
    if set(known).isdisjoint(found):
        counted = sorted(found) == list(range(min(found), min(found) + len(found))) and min(found) < 2
        raise UserError(
            f"the results belong to other images: none of their image ids ({few(found)}) is one of {where} "
            f"({few(known)})" + "; they look like indices into a list" * counted
        )


def with_results(references: References, results: Mapping[int, str]) -> References:
    """The references of the images that have a result."""
    return {image_id: texts for image_id, texts in references.items() if image_id in results}


def few(ids: Collection[int]) -> str:
    """The lowest ten of them."""
    lowest = sorted(ids)[:MOST_LISTED]
    return ", ".join(map(str, lowest)) + ", …" * (len(ids) > len(lowest))
