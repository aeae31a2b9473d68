"""Compares the scores of this run with the committed ones: equal, within the spread of seeds, or beyond it.

Another CPU rounds products of matrices differently, so the same parameters give other weights there, and with
them other hashes in `dvc.lock` and other scores: that is expected.
How much is expected follows from `bench/results/learning.json`, the scores of the same parameters with other
seeds.
"""

import subprocess
from pathlib import Path
from statistics import stdev
from typing import Any

from fsgr_model.runtime.artifacts import load_json, parse_json
from fsgr_model.scoring.provenance import PACKAGES, git
from fsgr_model.text.lines import lines_of

PHASES = ("xe", "scst")
SCORE = "CIDEr"
SEEDS = Path("bench/results/learning.json")
# Files in git that `dvc repro` itself writes.
WRITTEN = ("dvc.lock", "metrics/", "plots/")
CLEAN = 'git commit --all --message "results of this machine"'


def tell_standing(metrics: Path, params_file: Path) -> None:
    """Print the lines of `standing`."""
    for line in standing(metrics, params_file):
        print(line)


def standing(metrics: Path, params_file: Path) -> list[str]:
    """Lines to print after a run, for the metrics files in the folder `metrics`.

    None where there is nothing to compare: no git, no committed metrics, or other parameters or other code
    than the commit has.
    """
    files = {phase: metrics / f"{phase}.json" for phase in PHASES}
    here = {phase: load_json(file) for phase, file in files.items()}
    try:
        committed = {
            phase: parse_json(git("show", f"HEAD:./{file}"), f"{file} of the commit")
            for phase, file in files.items()
        }
        changed = lines_of(git("diff", "--name-only", "--relative", "HEAD"))
    except (OSError, subprocess.CalledProcessError):
        return []
    if any(not name.startswith(WRITTEN) for name in changed):
        return []
    fingerprint = f"fingerprint of {params_file}"
    if any(_fact(here[phase], fingerprint) != _fact(committed[phase], fingerprint) for phase in PHASES):
        return []
    scored = [phase for phase in PHASES if SCORE in here[phase] and SCORE in committed[phase]]
    lines = [_compared(phase, here[phase][SCORE], committed[phase][SCORE]) for phase in scored]
    if all(here[phase][SCORE] == committed[phase][SCORE] for phase in scored):
        lines = lines and ["The scores are the committed ones, to the last digit."]
    else:
        lines = [
            "The parameters are the committed ones, the scores are not: another CPU or another version of a "
            "package rounds differently.",
            *_other_versions(here[PHASES[0]], committed[PHASES[0]]),
            *lines,
        ]
    if changed:
        lines.append(
            f"So {', '.join(changed)} changed, as expected. This keeps your results and makes the tree "
            f"clean, and experiments start from it: {CLEAN}"
        )
    return lines


def _compared(phase: str, here: float, committed: float) -> str:
    both = f"{phase}: {SCORE} {here:.3f}, committed {committed:.3f}"
    seeds = _scores_of_seeds(phase)
    if committed not in seeds:
        return f"{both}; how far seeds lie apart was not measured for these parameters"
    allowed = 2 * stdev(seeds)
    where = "within" if abs(here - committed) <= allowed else "beyond"
    return (
        f"{both}: {where} the spread of seeds (two standard deviations of {len(seeds)} seeds: {allowed:.3f})"
    )


def _scores_of_seeds(phase: str) -> list[float]:
    """Scores of the demo's parameters with several seeds; empty in a project without that file."""
    if not SEEDS.exists():
        return []
    return [scores[phase][SCORE] for name, scores in load_json(SEEDS).items() if name.startswith("learn-")]


def _other_versions(here: dict[str, Any], committed: dict[str, Any]) -> list[str]:
    """A line that names what was installed in another version when the committed scores were made."""
    differing = [
        f"{name} {_fact(here, name)} here, {_fact(committed, name)} there"
        for name in ("python", *PACKAGES)
        if _fact(here, name) != _fact(committed, name)
    ]
    return [f"Versions differ: {'; '.join(differing)}."] if differing else []


def _fact(report: dict[str, Any], what: str) -> str:
    return next((fact["value"] for fact in report["provenance"] if fact["what"] == what), "")
