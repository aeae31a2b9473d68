"""What a newcomer is told about scores that are not those of the commit."""

import json
import subprocess
from pathlib import Path

import pytest

from fsgr_model.scoring import standing as standing_module
from fsgr_model.scoring.standing import standing

SEEDS = [2.0, 2.1, 2.2]  # standard deviation 0.1


def report(score: float, params: str = "p", torch: str = "2.13.0") -> str:
    facts = {"fingerprint of params.yaml": params, "torch": torch}
    return json.dumps(
        {"CIDEr": score, "provenance": [{"what": name, "value": value} for name, value in facts.items()]}
    )


def write(phases: str) -> None:
    Path("metrics").mkdir(exist_ok=True)
    for phase in ("xe", "scst"):
        Path("metrics", f"{phase}.json").write_text(phases)


def commit(everything: bool = True) -> None:
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    if everything:
        subprocess.run(["git", "add", "--all"], check=True)
    subprocess.run(["git", *who, "commit", "--quiet", "--message", "results"], check=True)


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose scores are those of the first seed, 2.0."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench" / "results").mkdir(parents=True)
    runs = {f"learn-{n}": {p: {"CIDEr": score} for p in ("xe", "scst")} for n, score in enumerate(SEEDS)}
    (tmp_path / "bench" / "results" / "learning.json").write_text(json.dumps(runs))
    (tmp_path / "dvc.lock").write_text("theirs")
    (tmp_path / "code.py").write_text("")
    write(report(SEEDS[0]))
    subprocess.run(["git", "init", "--quiet"], check=True)
    commit()
    return tmp_path


def told() -> list[str]:
    return standing(Path("metrics"), Path("params.yaml"))


def test_the_same_scores(committed: Path) -> None:
    assert told() == ["The scores are the committed ones, to the last digit."]


def test_another_cpu_within_the_spread(committed: Path) -> None:
    write(report(2.19))
    (committed / "dvc.lock").write_text("ours")
    lines = told()
    assert lines[0].startswith("The parameters are the committed ones, the scores are not: another CPU")
    assert lines[1].startswith("xe: CIDEr 2.190, committed 2.000: within the spread of seeds (two standard")
    assert "scst: CIDEr 2.190" in lines[2]
    assert lines[-1].startswith("So dvc.lock, metrics/scst.json, metrics/xe.json changed, as expected. ")
    assert lines[-1].endswith(standing_module.CLEAN)


def test_the_command_that_is_named_makes_the_tree_clean_and_keeps_the_results(committed: Path) -> None:
    write(report(2.19))
    command = (
        told()[-1]
        .partition("start from it: ")[2]
        .replace("git ", "git -c user.name=test -c user.email=test@localhost ", 1)
    )
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)
    assert subprocess.run(["git", "status", "--porcelain"], capture_output=True).stdout == b""
    assert json.loads(Path("metrics/xe.json").read_text())["CIDEr"] == 2.19


def test_beyond_the_spread_and_other_versions_are_said(committed: Path) -> None:
    write(report(2.21, torch="2.14.1"))
    lines = told()
    assert "Versions differ: torch 2.14.1 here, 2.13.0 there." in lines
    assert any("xe: CIDEr 2.210, committed 2.000: beyond the spread" in line for line in lines)


def test_a_spread_that_was_not_measured_for_these_scores_is_not_claimed(committed: Path) -> None:
    write(report(1.0))
    commit()
    write(report(1.01))
    assert any("how far seeds lie apart was not measured" in line for line in told())


@pytest.mark.parametrize("change", ["parameters", "code", "no git", "nothing committed"])
def test_nothing_is_told_where_nothing_can_be_compared(committed: Path, change: str) -> None:
    write(report(2.19, params="q" if change == "parameters" else "p"))
    if change == "code":
        (committed / "code.py").write_text("other = 1")
    elif change == "no git":
        (committed / ".git").rename(committed / "aside")
    elif change == "nothing committed":
        subprocess.run(["git", "rm", "-r", "--quiet", "--cached", "metrics"], check=True)
        commit(everything=False)
    assert told() == []
