"""Whatever the system refuses, wherever: one line that names the file, exit code 1, and nothing lost.

A subprocess of its own imports the project with its file operations wrapped, and runs every command in it.
"""

import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.places import Place, places, wrap
from tests.faults.refusing import Outcome, read
from tests.faults.sweep import NUMBERS, impossible
from tests.faults.watched import started

# A line that tells a user: a command's own error, one of several pictures, or a finding of `check`.
TOLD = re.compile(r"error: |\d+\. |stopped by ")
# A sweep that says nothing for longer than this waits for something that never comes.
SECONDS_STILL = 300.0
# Places that no driver comes to, with the reason.
GROWS = (
    "a file that grows line by line is neither as before nor as after: tests/commands/test_bulk.py cuts it"
)
SERVES = "the page goes on after a request that fails: tests/page"
STARTS = "processes that a fork cannot start: tests/pipeline/test_process_faults.py"
NO_FILE = "a function of the project that is called as a file's is"
EXTRA = "of an extra: TensorBoard, or ONNX; an error there is told as any other of the file system"
FONTS = "fonts of the machine, asked for captions in other scripts only: tests/reporting"
MEMBERS = "an ensemble's members are looked for before any work: tests/inference/test_members.py"
NOT_REACHED: dict[str, str] = {
    **dict.fromkeys(
        (
            "caption_into: run.write",
            "CaptionFile.__init__: path.parent.mkdir",
            "CaptionFile.__init__: path.open",
            "CaptionFile.__init__: fcntl.flock",
            "CaptionFile.rows: self._file.seek",
            "CaptionFile.rows: self._file.truncate",
            "CaptionFile.append: self._file.write",
            "CaptionFile.append: self._file.flush",
            "CaptionFile.sync: os.fsync",
            "write_beside: path.open",
            "write_beside: file.seek",
            "write_beside: file.read",
            "write_beside: file.write",
        ),
        GROWS,
    ),
    **dict.fromkeys(
        (
            "served: Path(arguments.model).resolve",
            "served: Path('params.yaml').is_file",
            "served: (files.weights / 'model.safetensors').is_file",
            "live_runs: (project.root / '.resume').glob",
            "live_runs: path.read_text",
            "live_runs: path.stat",
            "_stamp: file.stat",
            "Project.__init__: words.exists",
            "Project.scored_phases: self._file(phase).is_file",
            "revisions: subprocess.run",
        ),
        SERVES,
    ),
    **dict.fromkeys(
        (
            "_work_with_others: (Path(os.environ[LOGS]) / f'{lost.rank}{LOSS}').write_text",
            "launch: subprocess.Popen",
            "new_log_folder: folder.mkdir",
            "new_log_folder: folder.resolve",
            "new_log_folder: parent.glob",
            "keep_log: path.open",
            "_fill: writer.write",
            "TwoOutputs.write: self.log.write",
            "TwoOutputs.write: self.log.flush",
            "TwoOutputs.write: self.console.write",
            "_locked: os.fdopen",
            "_locked: os.open",
            "_locked: fcntl.flock",
            "_log_of: logs.glob",
            "_loss: logs.glob",
            "_loss: note.read_text",
            "_last_line: log.is_file",
            "_last_line: log.read_text",
        ),
        STARTS,
    ),
    **dict.fromkeys(
        (
            "TensorBoardReport.captions: self.writer.flush",
            "TensorBoardReport.epoch: self.writer.flush",
            "TensorBoardReport.sheet: Image.open",
            "_check: path.is_file",
            "exported_model: (folder / onnx_folder.DESCRIPTION).is_file",
            "write_description: (folder / name).is_file",
            "write_graphs: (folder / WORDS).parent.mkdir",
            "write_graphs: shutil.copyfile",
        ),
        EXTRA,
    ),
    **dict.fromkeys(("_by_fontconfig: subprocess.run", "face: ImageFont.truetype"), FONTS),
    **dict.fromkeys(("member_files: file.is_file", "member_files: folder.glob"), MEMBERS),
    **dict.fromkeys(
        (
            "EnsembleCaptioner.describe: self.read",
            "EnsembleCaptioner.read: member.read",
            "Fresh.__call__: self.read",
            "PrototypeSearch.renew_if_due: memory.replace",
        ),
        NO_FILE,
    ),
}
# Places, and errors there, whose message names the folder that the lock is for instead of the lock's file.
OTHER_NAME = {
    "_owned: os.fstat": set(NUMBERS),
    "_locked_file: fcntl.lockf": {errno.EAGAIN, errno.EACCES},  # another process has it
}


@dataclass(frozen=True)
class Sweep:
    """What a sweep found: `reached` and `no_file` are places, `unknown` lines that are none."""

    outcomes: list[Outcome]
    reached: set[Place]
    no_file: set[str]
    unknown: list[str]


def sweep(kind: str, parts: int = 1) -> Iterator[Sweep]:
    """Run a sweep of `sweep.SWEEPS` in parts, in a folder of a short path: sockets have their names in it."""
    with tempfile.TemporaryDirectory(prefix="sweep-") as name:
        folders = [Path(name) / str(part) for part in range(parts)]
        running = []
        try:
            for part, folder in enumerate(folders):
                folder.mkdir()
                running.append(started("tests.faults.sweep", str(folder), kind, str(part), str(parts)))
            for each in running:
                assert each.ended(SECONDS_STILL) == 0, each.said()[-5000:]
        finally:
            for each in running:
                each.end()
        yield joined([found_in(folder) for folder in folders])


def joined(found: list[Sweep]) -> Sweep:
    return Sweep(
        [outcome for each in found for outcome in each.outcomes],
        set[Place]().union(*(each.reached for each in found)),
        set[str]().union(*(each.no_file for each in found)),
        [line for each in found for line in each.unknown],
    )


def found_in(folder: Path) -> Sweep:
    lines = {name: (folder / name).read_text(encoding="utf-8") for name in ("outcomes", "unknown")}
    return Sweep(
        [read(line) for line in lines["outcomes"].split("\n")],
        {Place(*each) for each in json.loads((folder / "reached").read_text())},
        set(json.loads((folder / "no_file").read_text())),
        lines["unknown"].splitlines(),
    )


@pytest.fixture(scope="module", params=["few", pytest.param("once", marks=pytest.mark.slow)])
def swept(request: pytest.FixtureRequest) -> Iterator[Sweep]:
    """Places refused once: those that two commands come to, and in the slow tests every one."""
    yield from sweep(request.param)


def broken(outcomes: Iterable[Outcome], rule: Callable[[Outcome], bool]) -> str:
    """The outcomes that break a rule, for people; empty if none does."""
    return "\n".join(f"{each}\n{each.said[-1500:]}" for each in outcomes if not rule(each))


def told(outcome: Outcome) -> list[str]:
    return [line for line in outcome.said.splitlines() if TOLD.match(line)]


def is_one_line(outcome: Outcome) -> bool:
    """Or the command did without, which `is_whole` then looks at."""
    if "Traceback" in outcome.said or outcome.code not in (0, 1):
        return False
    return outcome.code == 0 or bool(told(outcome))


def names_the_file(outcome: Outcome) -> bool:
    path = Path(outcome.path.removesuffix(".partial"))
    # The system's words for an opened file that has no name any more.
    nameless = not path.name or outcome.path.endswith(" (deleted)")
    if (
        outcome.code == 0
        or outcome.ends
        or nameless
        or outcome.number in OTHER_NAME.get(outcome.place.text, ())
    ):
        return True
    return any(path.name in line or path.parent.name in line for line in told(outcome))


def is_whole(outcome: Outcome) -> bool:
    """Each file is as before the command or as after it, and none is left over."""
    return not outcome.changed and not outcome.lost


@pytest.mark.slow
@pytest.mark.parametrize("swept", ["once"], indirect=True)
def test_every_place_is_reached_and_refused(swept: Sweep) -> None:
    """A call that is new in the code needs a driver in world.py or rare.py, or a reason in NOT_REACHED."""
    known = places()
    missing = {place.text for place in known if place not in swept.reached}
    assert missing == NOT_REACHED.keys()
    refused = {outcome.place.text for outcome in swept.outcomes}
    assert {place.text for place in known} - NOT_REACHED.keys() - swept.no_file == refused
    assert OTHER_NAME.keys() <= refused
    assert len(swept.outcomes) > 150


def test_the_list_of_places_knows_what_python_sees_opened(swept: Sweep) -> None:
    assert swept.unknown == []


def test_it_ends_in_one_line(swept: Sweep) -> None:
    assert len(swept.outcomes) > 20
    assert not broken(swept.outcomes, is_one_line)


def test_the_line_names_the_file(swept: Sweep) -> None:
    assert not broken(swept.outcomes, names_the_file)


def test_no_output_is_lost_or_half_written(swept: Sweep) -> None:
    assert not broken(swept.outcomes, is_whole)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["ways", "errors"])
def test_every_way_to_each_place_and_every_error_there(kind: str) -> None:
    """As above: each three callers of a place with two errors or more; each place with all of them."""
    for swept in sweep(kind, parts=len(os.sched_getaffinity(0))):
        assert {outcome.number for outcome in swept.outcomes} == set(NUMBERS)
        for rule in (is_one_line, names_the_file, is_whole):
            assert not broken(swept.outcomes, rule)
        if kind == "errors":
            refused = {(outcome.place, outcome.number) for outcome in swept.outcomes}
            asked = {place for place in places() if place.text not in NOT_REACHED.keys() | swept.no_file}
            assert refused == {
                (p, number) for p in asked for number in NUMBERS if number not in impossible(p)
            }


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("path.open()", ["f: path.open"]),
        ("fcntl.flock(lock, fcntl.LOCK_EX)", ["f: fcntl.flock"]),
        ("json.load(open(path))", ["f: json.load", "f: open"]),
        ("text.replace('a', 'b'); path.replace(other)", ["f: path.replace"]),
        ("shutil.rmtree(path, ignore_errors=True)", []),
        ("load_file(path)", []),
    ],
)
def test_places_are_found_in_the_source(line: str, found: list[str]) -> None:
    source = f"from fsgr_model.x import load_file\ndef f():\n    {line}\n"
    assert sorted(place.text for place in wrap(source, Path("x.py"))[1].places) == sorted(found)
