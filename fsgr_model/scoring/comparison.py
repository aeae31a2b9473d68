"""Two systems on the same images: which differences of scores are real, and which images changed most."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fsgr_model.datasets.normal_form import read_lists
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError, needing_extra
from fsgr_model.scoring.bootstrap import interval, resampled
from fsgr_model.scoring.caption_tokens import Tokenizer
from fsgr_model.scoring.coco_files import ReferenceFile
from fsgr_model.scoring.file_kinds import SCORES_BY_IMAGE, kind_of
from fsgr_model.scoring.image_scores import ImageScores
from fsgr_model.scoring.report import Instances, caption_report
from fsgr_model.scoring.result_file import read_json, results_of
from fsgr_model.scoring.same_images import few

WORKSPACE = "workspace"
ROUNDING = 1e-9
SHOWN_FIRST = (
    "CIDEr",
    "Bleu_4",
    "ROUGE_L",
    "SPICE",
    "CHAIRi",
    "CHAIRs",
    "bad_endings",
    "CLIPScore",
    "RefCLIPScore",
)


@dataclass(frozen=True)
class Difference:
    """A score of A and of B, and the interval that contains 95% of the resampled differences B - A.

    One image cannot be drawn in several ways: its interval is NaN to NaN.
    """

    score: str
    a: float
    b: float
    low: float
    high: float

    @property
    def real(self) -> bool:
        """Whether the interval excludes 0 (and rounding errors), so that other images would keep the sign."""
        return self.low > ROUNDING or self.high < -ROUNDING


@dataclass(frozen=True)
class References:
    """What result files are scored with: captions by image id, COCO instances where known, a tokenizer.

    With `subset`, results may be of a part of the images, and are scored on these.
    """

    file: ReferenceFile
    instances: Instances | None
    tokenizer: Tokenizer
    subset: bool = False

    def score(self, value: Any, path: Path) -> ImageScores:
        """Scores by image of `value`, the content of the result file `path`.

        Raises:
            UserError: it is malformed, or its images are not those of the references.
        """
        spoken = self.file.scored(results_of(value, path))
        texts = self.file.scored_with(spoken, subset=self.subset).texts
        return caption_report(texts, spoken, self.instances, "off", tokenizer=self.tokenizer)[1]


def references_of_test_split(dataset: Path) -> ReferenceFile:
    """The captions of the test images of `data/dataset/`, which may have none, and the paths of the pictures.

    Raises:
        UserError: there is no dataset here, or it is damaged.
    """
    lists = read_lists(dataset)
    images = lists.images_of("test")
    texts = {image.image_id: [c.text for c in lists.captions.get(image.image_id, [])] for image in images}
    names = {image.image_id: image.path for image in images}
    return ReferenceFile(dataset / "captions.json", texts, names)


def is_result_file(name: str) -> bool:
    """Whether the name of a system is that of a file: one that is there, or JSON that should be."""
    return Path(name).is_file() or name.endswith((".json", ".jsonl"))


def load_system(name: str, phase: str, data: Path, references: References | None) -> ImageScores:
    """Scores by image of what `name` stands for.

    Args:
        name: a COCO result file (it is scored here), a file of scores by image, `workspace`, or what DVC and
            git know: the name of an experiment, a branch, a tag, a commit.
        phase: xe, scst or ensemble; it is ignored for a file.
        data: the project's `data`.
        references: what result files are scored with, where there are some.

    Raises:
        UserError: there is no such thing, or it has no scores by image; or a result file has no references.
    """
    if is_result_file(name):
        value = read_json(Path(name))
        if kind_of(value) == SCORES_BY_IMAGE:
            return ImageScores.of_json(value, name)
        if references is None:
            raise UserError(
                f"{name} is scored against references: name a file with --references, or run dvc repro "
                "dataset, whose test split is taken otherwise"
            )
        return references.score(value, Path(name))
    path = data / "scores" / f"{phase}.json"
    if name == WORKSPACE:
        return ImageScores.of_json(load_json(path), str(path))
    return ImageScores.of_json(json.loads(read_at_revision(path, name)), f"{path} of {name}")


def read_at_revision(path: Path, revision: str) -> str:
    """Text of a file that DVC or git keeps, as it was at a revision.

    Raises:
        UserError: no such file or revision, its content is not in DVC's cache, or DVC is not installed.
    """
    with needing_extra("pipeline"):
        import dvc.api
        from dvc.exceptions import DvcException
        from dvc_data.index import DataIndexDirError

    try:
        return dvc.api.read(path.as_posix(), rev=revision)
    # The last is DVC's for a folder whose list is not in the cache.
    except (DvcException, FileNotFoundError, DataIndexDirError) as error:
        raise UserError(
            f"{revision} is no file, and {path} of that revision cannot be read: {error}; give a result "
            f"file, {WORKSPACE}, or what dvc exp show lists, and run dvc repro evaluate there"
        ) from None


def check_comparable(a: ImageScores, b: ImageScores) -> None:
    """Refuse scores of other images, of other references, or made in another way.

    Raises:
        UserError: they differ; the message says in what.
    """
    if a.image_ids != b.image_ids:
        odd = sorted(set(a.image_ids) ^ set(b.image_ids))
        if set(a.image_ids).isdisjoint(b.image_ids):
            raise UserError(
                f"A and B must caption the same images; they share none: A has {few(a.image_ids)}, B has "
                f"{few(b.image_ids)}"
            )
        raise UserError(f"A and B must caption the same images; only one has {odd[:10]} ({len(odd)} in all)")
    for what, of_a, of_b, remedy in (
        ("against other references", a.references, b.references, "against the same captions"),
        ("in another way", a.signature, b.signature, "with one tokenizer"),
    ):
        if of_a != of_b:
            raise UserError(f"A and B were scored {what}: {of_a!r} and {of_b!r}; score both again, {remedy}")


def differences(a: ImageScores, b: ImageScores) -> list[Difference]:
    """Every score that both have, compared by a paired bootstrap on the same resamples."""
    of_a, of_b = a.statistics(), b.statistics()
    names = [name for name in SHOWN_FIRST if name in of_a and name in of_b]
    if len(a.image_ids) < 2 or not names:
        return [Difference(name, of_a[name].value, of_b[name].value, math.nan, math.nan) for name in names]
    score_R = resampled([*(of_a[name] for name in names), *(of_b[name] for name in names)])
    return [
        Difference(name, of_a[name].value, of_b[name].value, *interval(b_R - a_R))
        for name, a_R, b_R in zip(names, score_R[: len(names)], score_R[len(names) :], strict=True)
    ]


def most_changed(a: ImageScores, b: ImageScores, count: int) -> list[int]:
    """Rows of the images whose CIDEr rose most, then of those where it fell most, half of `count` each.

    None where there is no CIDEr.
    """
    if "CIDEr" not in a.columns or "CIDEr" not in b.columns:
        return []
    change_N = b.columns["CIDEr"] - a.columns["CIDEr"]
    order = np.argsort(-change_N, kind="stable")
    rose = [int(row) for row in order[: (count + 1) // 2] if change_N[row] > 0]
    fell = [int(row) for row in order[::-1][: count // 2] if change_N[row] < 0]
    return rose + fell


def why_no_cider(a: ImageScores, b: ImageScores) -> str | None:
    """Why the table has no CIDEr; None where it has."""
    without = [scores for scores in (a, b) if "CIDEr" not in scores.columns]
    if not without:
        return None
    reasons = (row["reason"] for scores in without for row in scores.omitted if row["metric"] == "CIDEr")
    return next(reasons, "the scores by image of A or B have none")


def as_table(rows: list[Difference]) -> str:
    """The differences as Markdown."""
    lines = ["| score | A | B | B - A | 95% interval | real |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.score} | {row.a:.4f} | {row.b:.4f} | {row.b - row.a:+.4f} | {_ends(row)} |" for row in rows
    ]
    return "\n".join(lines)


def _ends(row: Difference) -> str:
    """The last two columns of the table."""
    if math.isnan(row.low):
        return "none | unknown"
    return f"{row.low:+.4f} to {row.high:+.4f} | {'yes' if row.real else 'no'}"
