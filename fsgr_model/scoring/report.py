"""The scores of one caption an image, as a JSON object: for the stage `evaluate` and for `pipeline.score`.

Numbers stand at the top level, where `dvc metrics` shows them; what was left out, and where the numbers come
from, are lists, which it does not.
"""

from collections.abc import Collection, Sequence
from typing import Any, Literal

from fsgr_model.datasets.listing import listed
from fsgr_model.errors import UserError
from fsgr_model.scoring.caption_tokens import Tokenizer
from fsgr_model.scoring.chair import chair
from fsgr_model.scoring.coco_metrics import score_captions
from fsgr_model.scoring.endings import bad_ending_share

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
    meteor: Literal["auto", "off"],
    tokenizer: Tokenizer,
) -> Report:
    """COCO metrics, CHAIR, the share of bad endings, the number of images, and `omitted`.

    Args:
        references: image id -> raw captions.
        results: image id -> raw caption, of the same images.
        instances: COCO `categories` and `annotations`, or None.
        meteor: `auto` or `off`.
        tokenizer: of the COCO metrics; `python` or `java`. CHAIR and the endings are always told by ours.

    Raises:
        UserError: the images differ.
    """
    scores = score_captions(references, results, meteor, tokenizer)
    report: Report = dict(scores.metrics)
    omitted: list[dict[str, str]] = list(scores.omitted)
    if instances and instances["annotations"]:
        hallucination = chair(references, results, instances)
        report["CHAIRi"], report["CHAIRs"] = hallucination.per_instance, hallucination.per_sentence
    else:
        omitted += [{"metric": name, "reason": NO_INSTANCES} for name in ("CHAIRi", "CHAIRs")]
    report["bad_endings"] = bad_ending_share(results.values())
    report["images"] = len(results)
    report["omitted"] = omitted
    return report


def report_without_references(expected: Collection[int], results: dict[int, str]) -> Report:
    """What can be said of captions of a test split without references: no score, and why.

    Raises:
        UserError: the captions are not those of the `expected` images.
    """
    odd = sorted(set(expected) ^ results.keys())
    if odd:
        raise UserError(f"captions and test images differ: {listed(odd)}; run dvc repro captions")
    omitted = [{"metric": name, "reason": NO_REFERENCES} for name in REFERENCE_METRICS]
    return {"bad_endings": bad_ending_share(results.values()), "images": len(results), "omitted": omitted}


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
        scores = caption_report(_of(references, ids), _of(results, ids), instances, "off", tokenizer)
        reports[domain] = {name: scores[name] for name in DOMAIN_METRICS if name in scores}
        reports[domain]["images"] = len(ids)
    return reports


def _of(values: dict[int, Any], ids: Sequence[int]) -> dict[int, Any]:
    return {image_id: values[image_id] for image_id in ids if image_id in values}
