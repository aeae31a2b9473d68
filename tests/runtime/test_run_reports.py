"""Other tools are told the numbers of the curve, once each; TensorBoard shows captions and the sheet besides.

DVCLive and Weights & Biases are stood in for, and tried themselves where they are installed (both offline).
"""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from PIL import Image

from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.run_reports import TOOLS, check_installed, report_sheet, reports

HISTORY = [
    {"epoch": 0, "lr": 0.0, "val_CIDEr": 0.01},
    {"epoch": 1, "lr": 0.002, "loss": 1.5, "val_CIDEr": 2.03},
    {"epoch": 2, "lr": 0.001, "loss": 1.25, "val_CIDEr": 2.33},
]
CURVE = {
    key: [(row["epoch"], row[key]) for row in HISTORY if key in row] for key in ("lr", "loss", "val_CIDEr")
}


@pytest.fixture(autouse=True)
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trained(tool: Any, history: list[dict[str, float]] = HISTORY, run: str = "train_xe-abc") -> None:
    """A run that tells after each epoch, and then goes on in another process up to the end."""
    with reports([tool], run) as first:
        for epochs in range(1, len(history)):
            first.tell(history[:epochs], [(7, "a dog"), (8, f"a cat {epochs}")])
    with reports([tool], run) as second:
        second.tell(history, [(7, "a dog"), (8, "a cat")])


def test_nobody_is_told_without_being_named(away: Path) -> None:
    with reports([], "train_xe-abc") as nobody:
        nobody.tell(HISTORY)
    report_sheet([], away / "none.png")
    assert not list(away.iterdir())


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_that_is_not_installed_is_named_with_its_extra(tool, monkeypatch) -> None:
    for name in (tool, "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf'pip install "fsgr-captioning\[{tool}\]"'), reports([tool], "run"):
        pass


def test_a_check_finds_what_is_not_installed(monkeypatch) -> None:
    monkeypatch.setattr("fsgr_model.runtime.run_reports.find_spec", lambda name: name == "dvclive" or None)
    check_installed(["dvclive"])
    with pytest.raises(
        UserError, match=r'report_to: wandb is not installed: pip install "fsgr-cap.*\[wandb\]"'
    ):
        check_installed(["dvclive", "wandb"])


def read_events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_tensorboard_reads_the_curve_while_the_run_goes_on(away: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard`")
    folder = away / "runs" / "train_xe-abc"
    with reports(["tensorboard"], "train_xe-abc") as told:
        told.tell(HISTORY[:2], [(7, "a dog")])
        scalars = read_events(folder).Scalars("val_CIDEr")
        assert [each.step for each in scalars] == [0, 1], "before it has ended"
    trained("tensorboard")
    events = read_events(folder)
    for key, curve in CURVE.items():
        found = [(each.step, each.value) for each in events.Scalars(key)]
        assert found == [(epoch, pytest.approx(value)) for epoch, value in curve], "once each, after all ends"
    (*_, last) = events.Tensors("captions/text_summary")
    assert b"- 7: a dog\n- 8: a cat" in last.tensor_proto.string_val[0] and last.step == 2


def test_tensorboard_shows_the_sheet(away: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard`")
    Image.new("P", (30, 20)).save(away / "sheet.png")
    report_sheet(["tensorboard"], away / "sheet.png")
    (shown,) = read_events(away / "runs" / "evaluate").Images("sheet")
    assert (shown.width, shown.height) == (30, 20)


class Live:
    """DVCLive's interface as far as it is used."""

    made: ClassVar[list["Live"]] = []

    def __init__(self, folder: str, **options: Any) -> None:
        self.folder, self.options, self.step, self.ended = folder, options, 0, False
        self.logged: dict[str, list[tuple[int, float]]] = {}
        Live.made.append(self)

    def log_metric(self, name: str, value: float) -> None:
        self.logged.setdefault(name, []).append((self.step, value))

    def make_summary(self) -> None:
        pass

    def end(self) -> None:
        self.ended = True


def stand_in(name: str, monkeypatch: pytest.MonkeyPatch, **content: Any) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)


def test_dvclive_is_told_the_curve(away, monkeypatch) -> None:
    monkeypatch.setattr(Live, "made", [])
    stand_in("dvclive", monkeypatch, Live=Live)
    trained("dvclive")
    assert all(live.ended and live.folder == str(away / "dvclive" / "train_xe-abc") for live in Live.made)
    assert Live.made[-1].logged == CURVE, "a new process tells everything again"
    assert Live.made[0].options["save_dvc_exp"] is False, "DVC itself saves experiments"


def test_wandb_is_told_the_curve_once(away, monkeypatch) -> None:
    logged: list[tuple[int, dict[str, float]]] = []
    begun: list[dict[str, Any]] = []

    def init(**options: Any) -> Any:
        begun.append(options)
        run = SimpleNamespace(step=len(logged), finish=lambda: None)

        def log(numbers: dict[str, float], step: int, commit: bool) -> None:
            logged.append((step, numbers))
            run.step = step + commit

        run.log = log
        return run

    stand_in("wandb", monkeypatch, init=init, Error=RuntimeError)
    trained("wandb")
    assert [(options["id"], options["resume"]) for options in begun] == 2 * [("train_xe-abc", "allow")]
    found = {key: [(step, numbers[key]) for step, numbers in logged if key in numbers] for key in CURVE}
    assert found == CURVE


def test_what_wandb_refuses_is_told(monkeypatch) -> None:
    class Refusal(Exception):
        pass

    def init(**options: Any) -> Any:
        raise Refusal("no API key")

    stand_in("wandb", monkeypatch, init=init, Error=Refusal)
    told = "no API key; run wandb login, or set WANDB_MODE=offline"
    with pytest.raises(UserError, match=told), reports(["wandb"], "run"):
        pass


@pytest.mark.slow
def test_dvclive_itself(away: Path) -> None:
    pytest.importorskip("dvclive", reason="the extra `dvclive`")
    trained("dvclive")
    folder = away / "dvclive" / "train_xe-abc"
    lines = (folder / "plots" / "metrics" / "val_CIDEr.tsv").read_text().splitlines()
    assert lines == ["step\tval_CIDEr", "0\t0.01", "1\t2.03", "2\t2.33"]
    summary = json.loads((folder / "metrics.json").read_text())
    assert summary["val_CIDEr"] == 2.33 and summary["step"] == 2


@pytest.mark.slow
def test_wandb_itself(away: Path, monkeypatch) -> None:
    pytest.importorskip("wandb", reason="the extra `wandb`")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with reports(["wandb"], "train_xe-abc") as told:
        told.tell(HISTORY)
        summary = dict(told.tools[0].run.summary)
    assert summary["val_CIDEr"] == 2.33 and summary["_step"] == 2
    assert list((away / "wandb").glob("offline-run-*/run-*.wandb"))
