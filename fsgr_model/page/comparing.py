"""The tab Compare: two runs on the same test images, which differences are real, which images changed."""

import math
import re
from difflib import SequenceMatcher
from typing import Any

from fsgr_model.config.text_params import Segmenter
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
from fsgr_model.text.segmenters import segment

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
    words_a, words_b = marked(a.captions[row], b.captions[row], project.segmenter())
    return {
        "image_id": image_id,
        "version": record.sha256[:8] if record else None,
        "a": {"words": words_a, "CIDEr": float(a.columns["CIDEr"][row])},
        "b": {"words": words_b, "CIDEr": float(b.columns["CIDEr"][row])},
    }


def marked(
    a: str, b: str, segmenter: Segmenter = "ptb"
) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """The pieces of both captions, and whether each differs; what stays in order is the same.

    A piece is a word of the segmenter with all up to the next one; together they are the caption.

    Raises:
        UserError: the segmenter is not installed; the message names the extra.
    """
    pieces_a, pieces_b = pieces(a, segmenter), pieces(b, segmenter)
    words_a, words_b = ([word for word, _ in each] for each in (pieces_a, pieces_b))
    same_a: set[int] = set()
    same_b: set[int] = set()
    for block in SequenceMatcher(None, words_a, words_b, autojunk=False).get_matching_blocks():
        same_a.update(range(block.a, block.a + block.size))
        same_b.update(range(block.b, block.b + block.size))
    return (
        [(piece, place not in same_a) for place, (_, piece) in enumerate(pieces_a)],
        [(piece, place not in same_b) for place, (_, piece) in enumerate(pieces_b)],
    )


def pieces(caption: str, segmenter: Segmenter) -> list[tuple[str, str]]:
    """Each word of a caption and the piece of the caption that it begins; `ptb` divides at spaces only."""
    words = caption.split() if segmenter == "ptb" else segment(caption, segmenter)
    found: list[tuple[str, int]] = []
    at = 0
    for word in words:
        # A word that a mark of punctuation divides in the caption has no place of its own.
        if place := re.compile(re.escape(word), re.IGNORECASE).search(caption, at):
            found.append((word, place.start() if found else 0))
            at = place.end()
    ends = [start for _, start in found[1:]] + [len(caption)]
    return [(word, caption[start:end]) for (word, start), end in zip(found, ends, strict=True)]
