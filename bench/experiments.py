"""Named DVC experiments from the current commit: run those that are missing, read the scores of all."""

import json
import os
import statistics
import subprocess
from collections.abc import Mapping, Sequence

from fsgr_model.runtime.errors import UserError

PHASES = ("xe", "scst")
Scores = dict[str, dict[str, float]]


def everything(seed: int) -> tuple[str, ...]:
    """Changes that give world, CLIP and captioner one seed."""
    return f"dataset.seed={seed}", f"clip.training.seed={seed}", f"seed={seed}"


def run_experiments(changes: Mapping[str, Sequence[str]], jobs: int) -> dict[str, Scores]:
    """Scores of each experiment by phase: `{"learn-42": {"xe": {"CIDEr": 1.7, …}, "scst": {…}}, …}`.

    Args:
        changes: name -> the parameters it changes, as `dvc exp run -S` takes them.
        jobs: experiments that run at once; each has its share of the CPU cores.

    Raises:
        UserError: an experiment failed.
    """
    missing = {name: settings for name, settings in changes.items() if not is_done(name)}
    _run(missing, jobs)
    if failed := [name for name in changes if not is_done(name)]:
        raise UserError(f"these experiments failed: {failed}; `dvc queue logs NAME` says why")
    return {name: {phase: numbers(name, f"metrics/{phase}.json") for phase in PHASES} for name in changes}


def _run(changes: Mapping[str, Sequence[str]], jobs: int) -> None:
    for name, settings in changes.items():
        options = [word for change in settings for word in ("-S", change)]
        subprocess.run(["dvc", "exp", "run", "--queue", "--name", name, *options], check=True)
    if changes:
        # More threads than cores make training many times slower: they wait for each other, spinning.
        threads = str(max(1, (os.cpu_count() or 1) // jobs))
        environment = os.environ | {"OMP_NUM_THREADS": threads}
        subprocess.run(["dvc", "exp", "run", "--run-all", "--jobs", str(jobs)], env=environment)


def is_done(name: str) -> bool:
    """Whether an experiment of this name, from the current commit, has finished."""
    return not subprocess.run(
        ["git", "rev-parse", "--verify", "-q", revision(name)], capture_output=True
    ).returncode


def revision(name: str) -> str:
    """The git reference that DVC keeps of an experiment started from the current commit."""
    shown = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, encoding="utf-8", check=True)
    head = shown.stdout.strip()
    return f"refs/exps/{head[:2]}/{head[2:]}/{name}"


def numbers(name: str, file: str) -> dict[str, float]:
    """The numbers of a metrics file of an experiment; lists (what was left out, provenance) are dropped."""
    blob = f"{revision(name)}:{file}"
    shown = subprocess.run(["git", "show", blob], capture_output=True, encoding="utf-8")
    if shown.returncode:
        raise UserError(f"git has no {blob}; remove the experiment with `dvc exp remove` and run this again")
    return flat(json.loads(shown.stdout))


def flat(values: Mapping[str, object], prefix: str = "") -> dict[str, float]:
    """{"seen": {"CIDEr": 1.0}} -> {"seen.CIDEr": 1.0}"""
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            found[prefix + key] = value
    return found


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation (of the population) over seeds."""
    return f"{statistics.mean(values):.3f} ± {statistics.pstdev(values):.3f}"
