"""Stage `evaluate`: scores of the test split's captions, where they come from, and the sample sheet."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsgr_model.clip.codebook import load_codebook
from fsgr_model.clip.description import load_description
from fsgr_model.config.params import EvaluateParams, load_params
from fsgr_model.datasets.normal_form import ImageRecord, read_captions, read_images, read_instances
from fsgr_model.reporting.sample_sheet import SheetRow, choose_sheet_images, draw_sample_sheet
from fsgr_model.runtime.artifacts import save_json
from fsgr_model.runtime.errors import UserError, run_command
from fsgr_model.runtime.listing import listed
from fsgr_model.runtime.row_store import RowStore
from fsgr_model.scoring.clip_score import make_clip_scorer
from fsgr_model.scoring.coco_files import read_results
from fsgr_model.scoring.coco_metrics import MeteorProgram, MeteorSetting, shared_meteor
from fsgr_model.scoring.image_scores import ImageScores
from fsgr_model.scoring.label_accuracy import label_accuracy
from fsgr_model.scoring.provenance import Fact, pipeline_provenance, tokenizer_fact
from fsgr_model.scoring.report import (
    NO_INSTANCES,
    Report,
    add_intervals,
    caption_report,
    domain_reports,
    report_without_references,
)
from fsgr_model.scoring.standing import standing

PHASES = ("xe", "scst")
LABEL_METRICS = ("label_accuracy", "label_chance", "label_majority")


def evaluate(
    data: Path, params_file: Path, metrics: Path, by_image: Path, sheet: Path, params: EvaluateParams
) -> None:
    """Write xe.json and scst.json into `metrics` and, image by image, into `by_image`, and the sample sheet.

    Raises:
        UserError: a file is missing or malformed, or captions and test images differ.
    """
    # METEOR's program loads its tables for seconds; whatever needs no METEOR is done meanwhile.
    with shared_meteor(params.meteor) as meteor:
        _evaluate(data, params_file, metrics, by_image, sheet, params, meteor)


def _evaluate(
    data: Path,
    params_file: Path,
    metrics: Path,
    by_image: Path,
    sheet: Path,
    params: EvaluateParams,
    meteor: MeteorSetting | MeteorProgram,
) -> None:
    images = read_images(data / "dataset", "test")
    captions = read_captions(data / "dataset")
    references = {
        image.image_id: [caption.text for caption in captions.get(image.image_id, [])] for image in images
    }
    instances = read_instances(data / "dataset")
    concepts = load_codebook(data / "codebook").names
    resize_mode = load_description(data / "clip")["preprocessing"]["resize_mode"]
    labels = RowStore(data / "labels" / "test.h5", {}, below=len(concepts))
    label_NG = labels.rows([image.image_id for image in images])
    results = {phase: read_results(data / "captions" / f"{phase}.json") for phase in PHASES}
    for phase in PHASES:
        if odd := sorted(references.keys() ^ results[phase].keys()):
            raise UserError(
                f"the captions of {phase} and the test images differ: {listed(odd)}; run dvc repro captions"
            )
    label_scores = _score_labels(label_NG, images, instances, concepts, resize_mode)
    domains = {image.image_id: image.domain for image in images}
    _draw_sheet(sheet, images, label_NG, concepts, references, results, params.sheet_images, resize_mode)
    reports = _score_phases(references, results, instances, domains, params, meteor)
    # Not before METEOR: it takes all cores.
    clip_scorer = make_clip_scorer(data, references)
    for phase, (report, scores) in reports.items():
        columns = clip_scorer.score(results[phase])
        report |= {name: float(column.mean()) for name, column in columns.items()}
        scores.columns.update(columns)
        scores.save(by_image / f"{phase}.json")
        omitted = report.pop("omitted") + label_scores.get("omitted", [])
        report |= {name: label_scores[name] for name in LABEL_METRICS if name in label_scores}
        provenance = [
            Fact(what="CIDEr signature", value=scores.signature),
            tokenizer_fact(params.tokenizer),
            *pipeline_provenance(data, params_file, phase),
        ]
        save_json(metrics / f"{phase}.json", report | {"omitted": omitted, "provenance": provenance})
        print(f"{phase}: {_summary(report)}")


def _score_phases(
    references: dict[int, list[str]],
    results: dict[str, dict[int, str]],
    instances: dict[str, list[dict[str, Any]]],
    domains: dict[int, str],
    params: EvaluateParams,
    meteor: MeteorSetting | MeteorProgram,
) -> dict[str, tuple[Report, ImageScores]]:
    """What captions and references alone tell of each phase."""
    if not any(references.values()):
        return {phase: report_without_references(results[phase]) for phase in PHASES}
    apart = {
        phase: domain_reports(domains, references, results[phase], instances, params.tokenizer)
        for phase in PHASES
    }
    reports = {}
    for phase in PHASES:
        report, scores = caption_report(
            references, results[phase], instances, meteor, params.tokenizer, params.spice
        )
        add_intervals(report, scores)
        of_domains, omitted = apart[phase]
        # What is left out of the whole split as well has its reason there.
        whole = {row["metric"] for row in report["omitted"]}
        report["omitted"] += [row for row in omitted if row["metric"].rpartition(".")[2] not in whole]
        reports[phase] = (report | of_domains, scores)
    return reports


def _score_labels(
    label_NG: NDArray[np.integer],
    images: list[ImageRecord],
    instances: dict[str, list[dict[str, Any]]],
    concepts: list[str],
    resize_mode: str,
) -> Report:
    """The label metrics, or why there are none."""
    if not instances["annotations"]:
        return {"omitted": [{"metric": name, "reason": NO_INSTANCES} for name in LABEL_METRICS]}
    sizes = [(image.image_id, image.width, image.height) for image in images]
    try:
        found = label_accuracy(label_NG, sizes, instances, concepts, resize_mode)
    except UserError as error:
        return {"omitted": [{"metric": name, "reason": str(error)} for name in LABEL_METRICS]}
    return dict(zip(LABEL_METRICS, (found.accuracy, found.chance, found.majority), strict=True))


def _summary(report: Report) -> str:
    shown = [name for name in ("CIDEr", "Bleu_4", "METEOR", "CHAIRi", "bad_endings") if name in report]
    return ", ".join(f"{name} {report[name]:.3f}" for name in shown)


def _draw_sheet(
    path: Path,
    images: list[ImageRecord],
    label_NG: NDArray[np.integer],
    concepts: list[str],
    references: dict[int, list[str]],
    results: dict[str, dict[int, str]],
    count: int,
    resize_mode: str,
) -> None:
    side = round(label_NG.shape[1] ** 0.5)
    row_of = {image.image_id: row for row, image in enumerate(images)}
    rows = [
        SheetRow(
            image_path=Path(image.path),
            texts=[
                ("XE", results["xe"][image.image_id]),
                ("SCST", results["scst"][image.image_id]),
                *(("human", text) for text in references[image.image_id][:1]),
            ],
            label_map=label_NG[row_of[image.image_id]].reshape(side, side),
            remark=image.domain,
        )
        for image in choose_sheet_images(images, count)
    ]
    title = "Test images, label maps, captions of XE and SCST" + (
        ", and a person's" * any(references.values())
    )
    draw_sample_sheet(path, rows, concepts, title, centre_only=resize_mode != "squash")


def main() -> None:
    params = load_params()
    evaluate(
        data=Path("data"),
        params_file=Path("params.yaml"),
        metrics=Path("metrics"),
        by_image=Path("data/scores"),
        sheet=Path("plots/sheet.png"),
        params=params.evaluate,
    )
    for line in standing(Path("metrics"), Path("params.yaml")):
        print(line)


if __name__ == "__main__":
    run_command(main)
