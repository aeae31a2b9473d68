"""The tab Train: curves of finished runs and of those under way."""

import json
from typing import Any

from fsgr_model.page.project import Project
from fsgr_model.page.revisions import revisions
from fsgr_model.runtime.artifacts import read_text
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.live_report import LIVE
from fsgr_model.scoring.comparison import WORKSPACE, read_at_revision

Columns = dict[str, list[float | None]]
CURVES = ("xe", "scst")


def curves_of(project: Project, revision: str) -> dict[str, Columns]:
    """The curves of a revision by stage, those that it has.

    Raises:
        KeyError: the project's git does not list it.
        UserError: it has no curve.
    """
    if revision not in revisions(project.root):
        raise KeyError(revision)
    found: dict[str, Columns] = {}
    reasons = []
    for stage in CURVES:
        path = project.root / "plots" / f"{stage}.tsv"
        try:
            text = read_text(path) if revision == WORKSPACE else read_at_revision(path, revision)
        except UserError as error:
            reasons.append(str(error))
            continue
        found[stage] = columns(text, f"{path} of {revision}")
    if not found:
        raise UserError("; ".join(reasons))
    return found


def columns(text: str, name: str) -> Columns:
    """The columns of a curve by name; a number that an epoch lacks is None.

    Raises:
        UserError: it is no table of numbers.
    """
    header, *rows = [line.split("\t") for line in text.splitlines()] or [[]]
    try:
        cells = [[float(cell) if cell else None for cell in row] for row in rows]
        return {key: list(column) for key, column in zip(header, zip(*cells, strict=True), strict=True)}
    except ValueError:
        raise UserError(f"{name} is no table of numbers; run dvc repro") from None


def live_runs(project: Project) -> list[dict[str, Any]]:
    """What the runs under way wrote last, the newest first; `written_at` in seconds since 1970.

    A run that was killed leaves its last word, so the page says how old it is.
    """
    found = []
    for path in (project.root / ".resume").glob(f"*/{LIVE}"):
        try:
            run = {"warnings": []} | json.loads(path.read_text(encoding="utf-8"))
            written_at = path.stat().st_mtime
        except FileNotFoundError:
            continue  # it ended between the two looks
        found.append(run | {"written_at": written_at, "run": path.parent.name})
    return sorted(found, key=lambda run: -run["written_at"])
