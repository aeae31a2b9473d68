"""The scores of one caption per image, as a JSON object: for the stage `evaluate` and for `fsgr score`.

Numbers stand at the top level, where `dvc metrics` shows them; what was left out, and where the numbers come
from, are lists, which it does not.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsgr_model.runtime.artifacts import fingerprint
from fsgr_model.scoring.caption_tokens import Tokenizer, is_ptb, tokens_of
from fsgr_model.scoring.chair import chair
from fsgr_model.scoring.coco_metrics import (
    WORD_METRICS,
    MeteorProgram,
    MeteorSetting,
    ScoreReport,
    score_captions,
)
from fsgr_model.scoring.endings import BAD_ENDINGS
from fsgr_model.scoring.image_scores import ImageScores
from fsgr_model.scoring.meaning import ONE_IMAGE_NO_INTERVAL, has_latin_words
from fsgr_model.scoring.provenance import cider_signature

Report = dict[str, Any]
Instances = dict[str, list[dict[str, Any]]]
NO_INSTANCES = "no instances (objects with categories) are known for these images"
NO_OBJECT_NAMED = "no caption names an object of the categories, so that there is no share of wrong ones"
NO_REFERENCES = "the test split has no references; scores come from the server that keeps them"
ENDINGS_ARE_ENGLISH = (
    "the words that must not end a caption are known for English only, and this text is divided by another "
    "tokenizer than ptb"
)
LETTERS_ARE_NOT_ENGLISH = (
    "the words that must not end a caption are known for English only, and most letters here are not Latin"
)
CHAIR_METRICS = ("CHAIRi", "CHAIRs")
REFERENCE_METRICS = (*WORD_METRICS, *CHAIR_METRICS)
SHOWN = ("CIDEr", "Bleu_4", "METEOR", "CHAIRi", "bad_endings")
DOMAIN_METRICS = ("CIDEr", "Bleu_4", "CHAIRi")


def caption_report(
    references: dict[int, list[str]],
    results: dict[int, str],
    instances: Instances | None,
    meteor: MeteorSetting | MeteorProgram,
    *,
    tokenizer: Tokenizer,
    spice: bool = False,
) -> tuple[Report, ImageScores]:
    """COCO metrics, CHAIR, the share of bad endings, the number of images, and `omitted`; and all by image.

    With any but the usual words `tokenizer` is beside the numbers, where `dvc metrics diff` shows it.

    Args:
        references: image id -> raw captions.
        results: image id -> raw caption, of the same images.
        instances: COCO `categories` and `annotations`, or None; and `images`, where not all are known to be
            listed by the instance files. There is no CHAIR if one of these images is not.
        meteor: `auto`, `off`, or a program that runs already.
        tokenizer: of the COCO metrics and CHAIR, which uses ours in place of `java`.
        spice: score SPICE as well.

    Raises:
        UserError: the images differ, or a Java program is missing or fails.
    """
    results = dict(sorted(results.items()))
    scores = score_captions(references, results, meteor, tokenizer, with_spice=spice)
    if scores.needs_segmenter:
        for metric in (*CHAIR_METRICS, "bad_endings"):
            scores.omit(metric, scores.needs_segmenter)
    else:
        _add_chair(scores, references, results, instances, tokenizer=tokenizer)
        _add_bad_endings(scores, results, tokenizer)
    report = scores.metrics | {"images": len(results), "omitted": scores.omitted}
    if not is_ptb(tokenizer):
        report["tokenizer"] = tokenizer
    by_image = image_scores(results, scores.columns, cider_signature(tokenizer), references)
    return report, replace(by_image, omitted=scores.omitted)


def _add_chair(
    scores: ScoreReport,
    references: dict[int, list[str]],
    results: dict[int, str],
    instances: Instances | None,
    *,
    tokenizer: Tokenizer,
) -> None:
    """CHAIR, or why there is none."""
    reason = _why_no_chair(instances, results)
    found = chair(references, results, instances, tokenizer) if instances and not reason else None
    if found is None or not any(found.named):
        for metric in CHAIR_METRICS:
            scores.omit(metric, reason or NO_OBJECT_NAMED)
        return
    scores.metrics |= {"CHAIRi": found.per_instance, "CHAIRs": found.per_sentence}
    named_N, invented_N = np.array(found.named), np.array(found.invented)
    wrong_N = np.minimum(invented_N, 1)
    scores.columns |= {"objects": named_N, "wrong_objects": invented_N, "wrong_object": wrong_N}


def _add_bad_endings(scores: ScoreReport, results: dict[int, str], tokenizer: Tokenizer) -> None:
    """The share of bad endings, or why there is none."""
    if not is_ptb(tokenizer):
        scores.omit("bad_endings", ENDINGS_ARE_ENGLISH)
        return
    if not has_latin_words(results.values()):
        scores.omit("bad_endings", LETTERS_ARE_NOT_ENGLISH)
        return
    endings_N = bad_endings(results)
    scores.metrics["bad_endings"] = float(endings_N.mean())
    scores.columns["bad_ending"] = endings_N


def _why_no_chair(instances: Instances | None, results: dict[int, str]) -> str | None:
    if not instances or not any(row["image_id"] in results for row in instances["annotations"]):
        return NO_INSTANCES
    listed = set(results)
    if "images" in instances:
        listed &= {image["id"] for image in instances["images"]}
    if len(listed) < len(results):
        return f"the instance files list {len(listed)} of the {len(results)} images"
    return None


def add_intervals(report: Report, by_image: ImageScores) -> None:
    """Put the intervals of CIDEr and Bleu_4 into a report, or why there are none."""
    if len(by_image.image_ids) < 2:
        report["omitted"].append({"metric": "interval_95", "reason": ONE_IMAGE_NO_INTERVAL})
    elif found := by_image.intervals():
        report["interval_95"] = found


def image_scores(
    results: dict[int, str],
    columns: dict[str, NDArray[Any]],
    signature: str,
    references: dict[int, list[str]],
) -> ImageScores:
    """Columns, in ascending order of image ids, with the captions and references that they belong to."""
    of_results = dict(sorted(results.items()))
    against = references_fingerprint(references)
    return ImageScores(list(of_results), list(of_results.values()), columns, signature, against)


def references_fingerprint(references: dict[int, list[str]]) -> str:
    """16 hex digits that name the captions of each image, whatever their order."""
    return fingerprint([[image_id, sorted(texts)] for image_id, texts in sorted(references.items())])


def bad_endings(results: dict[int, str]) -> NDArray[np.int64]:
    """1 for each caption that stops in the middle, else 0; in ascending order of image ids."""
    return np.array([int(ends_badly(results[image_id])) for image_id in sorted(results)])


def report_without_references(
    results: dict[int, str], tokenizer: Tokenizer = "python"
) -> tuple[Report, ImageScores]:
    """What can be said of captions of a test split without references: no score, and why."""
    scores = ScoreReport()
    for name in REFERENCE_METRICS:
        scores.omit(name, NO_REFERENCES)
    _add_bad_endings(scores, results, tokenizer)
    report = scores.metrics | {"images": len(results), "omitted": scores.omitted}
    return report, image_scores(results, scores.columns, "none", {})


def domain_reports(
    domain_of: dict[int, str],
    references: dict[int, list[str]],
    results: dict[int, str],
    instances: Instances,
    *,
    tokenizer: Tokenizer,
) -> tuple[dict[str, dict[str, float]], list[dict[str, str]]]:
    """A few scores of each domain's images apart, and which were left out; none where no domain has a name.

    CIDEr takes its document frequencies from the domain's own references, as if there were no others.

    Returns:
        `{"seen": {"CIDEr": 1.0, …}}` and `[{"metric": "unseen.CIDEr", "reason": …}]`.
    """
    reports, omitted = {}, []
    for domain in sorted(set(domain_of.values()) - {""}):
        ids = [image_id for image_id, its in domain_of.items() if its == domain]
        scores, _ = caption_report(
            _of(references, ids), _of(results, ids), instances, "off", tokenizer=tokenizer
        )
        reports[domain] = {name: scores[name] for name in DOMAIN_METRICS if name in scores}
        reports[domain]["images"] = len(ids)
        omitted += [
            {"metric": f"{domain}.{row['metric']}", "reason": row["reason"]}
            for row in scores["omitted"]
            if row["metric"] in DOMAIN_METRICS
        ]
    return reports, omitted


def _of(values: dict[int, Any], ids: Sequence[int]) -> dict[int, Any]:
    return {image_id: values[image_id] for image_id in ids if image_id in values}


def summary(report: Report) -> str:
    """The scores that are looked at first, in a line."""
    return ", ".join(f"{name} {report[name]:.3f}" for name in SHOWN if name in report)


def ends_badly(caption: str) -> bool:
    """Whether the last word is an article, a preposition or a conjunction."""
    return any(word in BAD_ENDINGS for word in tokens_of(caption)[-1:])
