"""The tab Compare: two runs on the same test images, which differences are real, which images changed."""

import math
from difflib import SequenceMatcher
from typing import Any

from fsgr_model.page.project import PHASES, Project
from fsgr_model.page.revisions import revisions
from fsgr_model.scoring.comparison import (
    WORKSPACE,
    Difference,
    check_comparable,
    differences,
    load_system,
    most_changed,
    why_no_cider,
)
from fsgr_model.scoring.image_scores import ImageScores

SHOWN_IMAGES = 60


def compared(project: Project, a: str, b: str) -> dict[str, Any]:
    """The table and the images that changed most, between two systems such as `main:scst`.

    Raises:
        KeyError: one is not the name of a revision and a phase.
        UserError: one has no scores by image, or the two cannot be compared.
    """
    known = revisions(project.root)
    of_a, of_b = (scores_of(project, name, known) for name in (a, b))
    check_comparable(of_a, of_b)
    rows = most_changed(of_a, of_b, SHOWN_IMAGES)
    return {
        "images": len(of_a.image_ids),
        "note": why_no_cider(of_a, of_b),
        "table": [_row(difference) for difference in differences(of_a, of_b)],
        "changed": [_changed(project, of_a, of_b, row) for row in rows],
    }


def scores_of(project: Project, system: str, known: list[str]) -> ImageScores:
    """Scores by image of `revision:phase`; a name that the project's git does not list is no file either."""
    revision, _, phase = system.rpartition(":")
    if revision not in known or phase not in PHASES:
        raise KeyError(system)
    if revision == WORKSPACE:
        return project.scores[phase]()
    return load_system(revision, phase, project.data, None)


def _row(difference: Difference) -> dict[str, Any]:
    """JSON has no NaN: an interval of one image is null."""
    unknown = math.isnan(difference.low)
    return {
        "score": difference.score,
        "a": difference.a,
        "b": difference.b,
        "low": None if unknown else difference.low,
        "high": None if unknown else difference.high,
        "real": None if unknown else difference.real,
    }


def _changed(project: Project, a: ImageScores, b: ImageScores, row: int) -> dict[str, Any]:
    image_id = a.image_ids[row]
    record = project.records().get(image_id)
    words_a, words_b = marked(a.captions[row], b.captions[row])
    return {
        "image_id": image_id,
        "version": record.sha256[:8] if record else None,
        "a": {"words": words_a, "CIDEr": float(a.columns["CIDEr"][row])},
        "b": {"words": words_b, "CIDEr": float(b.columns["CIDEr"][row])},
    }


def marked(a: str, b: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """The words of both captions, and whether each differs; what stays in order is the same."""
    words_a, words_b = a.split(), b.split()
    same_a: set[int] = set()
    same_b: set[int] = set()
    for block in SequenceMatcher(None, words_a, words_b, autojunk=False).get_matching_blocks():
        same_a.update(range(block.a, block.a + block.size))
        same_b.update(range(block.b, block.b + block.size))
    return (
        [(word, place not in same_a) for place, word in enumerate(words_a)],
        [(word, place not in same_b) for place, word in enumerate(words_b)],
    )
