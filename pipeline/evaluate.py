"""Stage `evaluate`: scores of the test split's captions, where they come from, and the sample sheet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsgr_model.clip.codebook import load_codebook
from fsgr_model.clip.loading import Clip, load_clip
from fsgr_model.config.params import EvaluateParams, load_params
from fsgr_model.config.text_params import TextParams
from fsgr_model.datasets.normal_form import ImageRecord, read_instances, read_lists
from fsgr_model.reporting.sample_sheet import draw_split_sheet
from fsgr_model.runtime.artifacts import save_json, sha256_file
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import run_command
from fsgr_model.runtime.row_store import RowStore
from fsgr_model.runtime.run_reports import report_sheet
from fsgr_model.scoring.clip_score import make_clip_scorer
from fsgr_model.scoring.coco_metrics import shared_meteor
from fsgr_model.scoring.provenance import (
    Fact,
    parameters_fact,
    pipeline_provenance,
    sums_of_models,
    tokenizer_fact,
)
from fsgr_model.scoring.report import summary
from fsgr_model.scoring.result_file import ENSEMBLE, read_phases
from fsgr_model.scoring.split_scores import LABEL_METRICS, score_labels, score_phases
from fsgr_model.scoring.standing import tell_standing


@dataclass(frozen=True)
class TestSplit:
    """The inputs of the stage, each file read once. `label_NG`: rows of the concepts, a row per image.

    `results`: the caption of every image, for each phase; `sums`: the SHA-256 of the files behind the scores.
    """

    images: list[ImageRecord]
    references: dict[int, list[str]]
    instances: dict[str, list[dict[str, Any]]]
    concepts: list[str]
    clip: Clip
    features: RowStore
    label_NG: NDArray[np.integer]
    results: dict[str, dict[int, str]]
    sums: dict[str, dict[str, str]]


def main() -> None:
    params = load_params()
    evaluate(
        data=Path("data"),
        params_file=Path("params.yaml"),
        metrics=Path("metrics"),
        by_image=Path("data/scores"),
        sheet=Path("plots/sheet.png"),
        params=params.evaluate,
        text=params.text,
    )
    report_sheet(params.runtime.report_to, Path("plots/sheet.png"))
    tell_standing(Path("metrics"), Path("params.yaml"))


def evaluate(
    data: Path,
    *,
    params_file: Path,
    metrics: Path,
    by_image: Path,
    sheet: Path,
    params: EvaluateParams,
    text: TextParams,
) -> None:
    """Write xe.json and scst.json into `metrics` and, image by image, into `by_image`, and the sample sheet.
    Scores of an ensemble are a section of scst.json, since DVC expects a file of metrics in every run.

    Raises:
        UserError: a file is missing or malformed, or captions and test images differ.
    """
    # METEOR's program takes seconds to load its tables; work that does not need it is done meanwhile.
    with shared_meteor(params.meteor) as meteor:
        split = read_test_split(data)
        resize_mode = split.clip.identity["preprocessing"]["resize_mode"]
        labels = score_labels(
            split.label_NG, split.images, split.instances, split.concepts, resize_mode=resize_mode
        )
        draw_split_sheet(
            sheet,
            split.images,
            split.label_NG,
            split.concepts,
            references=split.references,
            results=split.results,
            count=params.sheet_images,
            resize_mode=resize_mode,
        )
        domains = {image.image_id: image.domain for image in split.images}
        reports = score_phases(
            split.references, split.results, split.instances, domains, params=params, text=text, meteor=meteor
        )
    parameters, found = parameters_fact(params_file), {}
    clip_scorer = make_clip_scorer(split.clip, split.features, split.references)  # uses all cores
    for phase, (report, scores) in reports.items():
        columns = clip_scorer.score(split.results[phase])
        scores.columns.update(columns)
        scores.save(by_image / f"{phase}.json")
        report |= {name: float(column.mean()) for name, column in columns.items()}
        omitted = report.pop("omitted") + labels.get("omitted", [])
        report |= {name: labels[name] for name in LABEL_METRICS if name in labels}
        provenance = [
            Fact(what="CIDEr signature", value=scores.signature),
            tokenizer_fact(params.tokenizer(text)),
            *pipeline_provenance(split.sums[phase], parameters, split.clip.identity),
        ]
        found[phase] = report | {"omitted": omitted, "provenance": provenance}
        print(f"{phase}: {summary(report)}")
    if ENSEMBLE in found:
        found["scst"][ENSEMBLE] = found.pop(ENSEMBLE)
    for phase, report in found.items():
        save_json(metrics / f"{phase}.json", report)


def read_test_split(data: Path) -> TestSplit:
    """Read `data`/{dataset,clip,codebook,features,labels,captions}.

    Raises:
        UserError: a file is missing or malformed, or captions and test images differ.
    """
    lists = read_lists(data / "dataset")
    images = lists.images_of("test")
    ids = [image.image_id for image in images]
    concepts = load_codebook(data / "codebook").names
    clip = load_clip(data / "clip", pick_device())
    labels = RowStore(data / "labels" / "test.h5", {}, below=len(concepts))
    captions = read_phases(data / "captions", ids)
    of_all = {
        "dataset images": lists.images_sha256,
        "dataset captions": lists.captions_sha256,
        "vocabulary": sha256_file(data / "vocab" / "words.json"),
    }
    sums = {
        phase: {**of_all, **sums_of_models(data, phase), "captions": captions_sha256}
        for phase, (_, captions_sha256) in captions.items()
    }
    return TestSplit(
        images,
        {number: [caption.text for caption in lists.captions.get(number, [])] for number in ids},
        read_instances(data / "dataset"),
        concepts,
        clip,
        RowStore(data / "features" / "test.h5", clip.identity),
        labels.rows(ids),
        {phase: results for phase, (results, _) in captions.items()},
        sums,
    )


if __name__ == "__main__":
    run_command(main)
