"""Scores of the captions and the label maps of a split: the reports of all training phases together."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsgr_model.config.params import EvaluateParams
from fsgr_model.config.text_params import TextParams
from fsgr_model.datasets.normal_form import ImageRecord
from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.coco_metrics import MeteorProgram, MeteorSetting
from fsgr_model.scoring.image_scores import ImageScores
from fsgr_model.scoring.label_accuracy import label_accuracy
from fsgr_model.scoring.report import (
    NO_INSTANCES,
    Report,
    add_intervals,
    caption_report,
    domain_reports,
    report_without_references,
)

LABEL_METRICS = ("label_accuracy", "label_chance", "label_majority")


def score_phases(
    references: dict[int, list[str]],
    results: dict[str, dict[int, str]],
    instances: dict[str, list[dict[str, Any]]],
    domains: dict[int, str],
    *,
    params: EvaluateParams,
    text: TextParams,
    meteor: MeteorSetting | MeteorProgram,
) -> dict[str, tuple[Report, ImageScores]]:
    """The scores of each phase that need captions and references only."""
    tokenizer = params.tokenizer(text)
    if not any(references.values()):
        return {phase: report_without_references(results[phase], tokenizer) for phase in results}
    apart = {
        phase: domain_reports(domains, references, results[phase], instances, tokenizer=tokenizer)
        for phase in results
    }
    reports = {}
    for phase in results:
        report, scores = caption_report(
            references, results[phase], instances, meteor, tokenizer=tokenizer, spice=params.spice
        )
        add_intervals(report, scores)
        of_domains, omitted = apart[phase]
        # What is left out of the whole split as well has its reason there.
        whole = {row["metric"] for row in report["omitted"]}
        report["omitted"] += [row for row in omitted if row["metric"].rpartition(".")[2] not in whole]
        reports[phase] = (report | of_domains, scores)
    return reports


def score_labels(
    label_NG: NDArray[np.integer],
    images: list[ImageRecord],
    instances: dict[str, list[dict[str, Any]]],
    concepts: list[str],
    *,
    resize_mode: str,
) -> Report:
    """The label metrics, or why there are none."""
    if not instances["annotations"]:
        return {"omitted": [{"metric": name, "reason": NO_INSTANCES} for name in LABEL_METRICS]}
    sizes = [(image.image_id, image.width, image.height) for image in images]
    try:
        found = label_accuracy(label_NG, sizes, instances, concepts, resize_mode=resize_mode)
    except UserError as error:
        return {"omitted": [{"metric": name, "reason": str(error)} for name in LABEL_METRICS]}
    return dict(zip(LABEL_METRICS, (found.accuracy, found.chance, found.majority), strict=True))
