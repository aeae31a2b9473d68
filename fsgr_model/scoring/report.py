"""The scores of one caption an image, as a JSON object: for the stage `evaluate` and for `pipeline.score`.

Numbers stand at the top level, where `dvc metrics` shows them; what was left out, and where the numbers come
from, are lists, which it does not.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsgr_model.artifacts import fingerprint
from fsgr_model.scoring.caption_tokens import Tokenizer
from fsgr_model.scoring.chair import chair
from fsgr_model.scoring.coco_metrics import MeteorProgram, MeteorSetting, score_captions
from fsgr_model.scoring.endings import ends_badly
from fsgr_model.scoring.image_scores import ImageScores
from fsgr_model.scoring.provenance import cider_signature

Report = dict[str, Any]
NO_INSTANCES = "no instances (objects with categories) are known for these images"
NO_REFERENCES = "the test split has no references; scores come from the server that keeps them"
REFERENCE_METRICS = (
    *(f"Bleu_{n}" for n in (1, 2, 3, 4)),
    *("ROUGE_L", "CIDEr", "METEOR", "SPICE", "CHAIRi", "CHAIRs"),
)
DOMAIN_METRICS = ("CIDEr", "Bleu_4", "CHAIRi")


def caption_report(
    references: dict[int, list[str]],
    results: dict[int, str],
    instances: dict[str, list[dict[str, Any]]] | None,
    meteor: MeteorSetting | MeteorProgram,
    tokenizer: Tokenizer,
    spice: bool = False,
) -> tuple[Report, ImageScores]:
    """COCO metrics, CHAIR, the share of bad endings, the number of images, and `omitted`; and all by image.

    Args:
        references: image id -> raw captions.
        results: image id -> raw caption, of the same images.
        instances: COCO `categories` and `annotations`, or None.
        meteor: `auto`, `off`, or a program that runs already.
        tokenizer: of the COCO metrics; `python` or `java`. CHAIR and the endings are always told by ours.
        spice: score SPICE as well.

    Raises:
        UserError: the images differ, or a Java program is missing or fails.
    """
    results = dict(sorted(results.items()))
    scores = score_captions(references, results, meteor, tokenizer, spice)
    report: Report = dict(scores.metrics)
    columns = dict(scores.columns)
    omitted: list[dict[str, str]] = list(scores.omitted)
    if instances and instances["annotations"]:
        hallucination = chair(references, results, instances)
        report["CHAIRi"], report["CHAIRs"] = hallucination.per_instance, hallucination.per_sentence
        named, invented = np.array(hallucination.named), np.array(hallucination.invented)
        columns |= {"objects": named, "wrong_objects": invented, "wrong_object": np.minimum(invented, 1)}
    else:
        omitted += [{"metric": name, "reason": NO_INSTANCES} for name in ("CHAIRi", "CHAIRs")]
    columns["bad_ending"] = bad_endings(results)
    report["bad_endings"] = float(columns["bad_ending"].mean())
    report["images"] = len(results)
    report["omitted"] = omitted
    return report, image_scores(results, columns, cider_signature(tokenizer), references)


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


def report_without_references(results: dict[int, str]) -> tuple[Report, ImageScores]:
    """What can be said of captions of a test split without references: no score, and why."""
    omitted = [{"metric": name, "reason": NO_REFERENCES} for name in REFERENCE_METRICS]
    columns = {"bad_ending": bad_endings(results)}
    share = float(columns["bad_ending"].mean())
    report = {"bad_endings": share, "images": len(results), "omitted": omitted}
    return report, image_scores(results, columns, "none", {})


def domain_reports(
    domain_of: dict[int, str],
    references: dict[int, list[str]],
    results: dict[int, str],
    instances: dict[str, list[dict[str, Any]]],
    tokenizer: Tokenizer,
) -> dict[str, dict[str, float]]:
    """A few scores of each domain's images apart; none where no domain has a name.

    CIDEr takes its document frequencies from the domain's own references, as if they were all there is.
    """
    reports = {}
    for domain in sorted(set(domain_of.values()) - {""}):
        ids = [image_id for image_id, its in domain_of.items() if its == domain]
        scores, _ = caption_report(_of(references, ids), _of(results, ids), instances, "off", tokenizer)
        reports[domain] = {name: scores[name] for name in DOMAIN_METRICS if name in scores}
        reports[domain]["images"] = len(ids)
    return reports


def _of(values: dict[int, Any], ids: Sequence[int]) -> dict[int, Any]:
    return {image_id: values[image_id] for image_id in ids if image_id in values}
