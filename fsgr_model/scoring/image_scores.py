"""Scores image by image, from which every score of the whole set can be computed again.

Shapes: N images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsgr_model.runtime.artifacts import save_json
from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.bootstrap import Floats, Statistic, interval, mean, ratio, resampled

BLEU_ORDERS = (1, 2, 3, 4)
BLEU_COLUMNS = (
    "bleu_words",
    "bleu_reference_words",
    *(f"bleu_matches_{n}" for n in BLEU_ORDERS),
    *(f"bleu_ngrams_{n}" for n in BLEU_ORDERS),
)
MEANS = {
    "CIDEr": "CIDEr",
    "ROUGE_L": "ROUGE_L",
    "SPICE": "SPICE",
    "CLIPScore": "CLIPScore",
    "RefCLIPScore": "RefCLIPScore",
    "CHAIRs": "wrong_object",
    "bad_endings": "bad_ending",
}
WITH_INTERVAL = ("CIDEr", "Bleu_4")
AGAIN = "run dvc repro evaluate, or fsgr score --by-image"
# BLEU adds these to its counts (pycocoevalcap), so that nothing is divided by zero.
TINY, SMALL = 1e-15, 1e-9


@dataclass(frozen=True)
class ImageScores:
    """One caption per image: `columns` by name, each [N] in the order of `image_ids`, which ascend.

    Columns are scores of the image alone (CIDEr, ROUGE_L, METEOR, SPICE, Bleu_4 of the sentence, CLIPScore,
    RefCLIPScore), marks (bad_ending, wrong_object) and counts (objects and wrong_objects named; bleu_*).
    `signature` says how the CIDEr-D was made, `references` names the captions that it was made against.
    `omitted`: metrics that were left out, and why; not kept in files.
    """

    image_ids: list[int]
    captions: list[str]
    columns: dict[str, NDArray[Any]]
    signature: str
    references: str
    omitted: list[dict[str, str]] = field(default_factory=list)

    def statistics(self) -> dict[str, Statistic]:
        """The scores of the whole set that are functions of sums over images.

        METEOR is not one of them: its program combines the whole set in a way of its own.
        """
        found = {name: mean(self.columns[column]) for name, column in MEANS.items() if column in self.columns}
        if "objects" in self.columns:
            found["CHAIRi"] = ratio(self.columns["wrong_objects"], self.columns["objects"])
        if BLEU_COLUMNS[0] in self.columns:
            counts_NC = np.stack([self.columns[name] for name in BLEU_COLUMNS], axis=1).astype(np.float64)
            found |= {f"Bleu_{n}": Statistic(counts_NC, _bleu(n)) for n in BLEU_ORDERS}
        return found

    def intervals(self) -> dict[str, dict[str, float]]:
        """95% intervals of CIDEr and Bleu_4, whichever exist, over the choice of test images.

        The document frequencies of CIDEr stay those of all images.
        """
        statistics = self.statistics()
        names = [name for name in WITH_INTERVAL if name in statistics]
        scores = resampled([statistics[name] for name in names]) if names else []
        ends = {name: interval(score_R) for name, score_R in zip(names, scores, strict=True)}
        return {name: {"low": low, "high": high} for name, (low, high) in ends.items()}

    def save(self, path: Path) -> None:
        """Write both notes, and `images`: `[{"image_id": 1, "caption": "…", "CIDEr": 1.2, …}]`."""
        values = {name: column.tolist() for name, column in self.columns.items()}
        rows = [
            {"image_id": image_id, "caption": caption} | {name: values[name][row] for name in values}
            for row, (image_id, caption) in enumerate(zip(self.image_ids, self.captions, strict=True))
        ]
        notes = {"signature": self.signature, "references": self.references}
        save_json(path, notes | {"images": rows})

    @classmethod
    def of_json(cls, content: Any, place: str) -> "ImageScores":
        """Read what `save` wrote; `place` is for the message.

        Raises:
            UserError: it has another form, or its image ids do not ascend.
        """
        try:
            rows = content["images"]
            names = [name for name in rows[0] if name not in ("image_id", "caption")]
            columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}
            scores = cls(
                [row["image_id"] for row in rows],
                [row["caption"] for row in rows],
                columns,
                content["signature"],
                content["references"],
            )
            ascending = all(before < after for before, after in pairwise(scores.image_ids))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise UserError(f"{place} has no scores by image; {AGAIN}") from None
        if not ascending:
            raise UserError(f"{place}: image ids must ascend, each once; {AGAIN}")
        return scores


def bleu_columns(cooked: Sequence[dict[str, Any]]) -> dict[str, NDArray[np.int64]]:
    """The counts of corpus BLEU by image, from what pycocoevalcap's BleuScorer keeps of each."""
    rows = [
        [
            each["testlen"],
            min((abs(length - each["testlen"]), length) for length in each["reflen"])[1],
            *each["correct"],
            *each["guess"],
        ]
        for each in cooked
    ]
    return dict(zip(BLEU_COLUMNS, np.array(rows, dtype=np.int64).T, strict=True))


def _bleu(order: int) -> Callable[[Floats], Floats]:
    """Corpus BLEU of n-grams up to `order` from sums of BLEU_COLUMNS, [..., 10] (Papineni et al. 2002)."""

    def combine(sums: Floats) -> Floats:
        words, reference_words = sums[..., 0], sums[..., 1]
        matches, ngrams = sums[..., 2 : 2 + order], sums[..., 6 : 6 + order]
        precision = ((matches + TINY) / (ngrams + SMALL)).prod(axis=-1) ** (1 / order)
        length_ratio = (words + TINY) / (reference_words + SMALL)
        return precision * np.exp(np.minimum(1 - 1 / length_ratio, 0))

    return combine
