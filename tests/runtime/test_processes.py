"""How the end of several processes is told, and what a launcher is given; only shells are started here."""

import os
import platform
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch.distributed as dist

from fsgr_model.runtime import processes
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.processes import (
    BY_TORCHRUN,
    LAUNCHED,
    LOGS,
    STARTED_BY,
    STOPPED,
    _tell,
    new_log_folder,
    run_in_processes,
)
from fsgr_model.runtime.stopping import stop_request
from fsgr_model.runtime.two_outputs import keep_log
from fsgr_model.runtime.world import ALONE, LOST

GONE = "process 1 (host, pid 12) ended"
HANGS = "process 1 (host, pid 12) did not answer for 100 s"


def told(tmp_path, codes, *, reason="", said=""):
    """The message about processes of these exit codes, of which rank 0 lost others for this reason."""
    if reason:
        (tmp_path / "0.lost").write_text(f"XE epoch 2/9, step 3\n{reason}\n")
    log = tmp_path / "run" / "attempt_0" / "1" / "stderr.log"
    log.parent.mkdir(parents=True)
    log.write_text(said)
    with pytest.raises((UserError, SystemExit)) as end:
        _tell({rank: (code, 11 + rank) for rank, code in codes.items()}, tmp_path, 2)
    return end.value.code if isinstance(end.value, SystemExit) else str(end.value)


def test_who_was_killed_is_told_with_the_step_and_the_logs(tmp_path):
    message = told(tmp_path, {0: LOST, 1: -signal.SIGKILL}, reason=GONE)
    assert message.startswith("process 1 of 2 (pid 12 on ")
    assert ") was ended by SIGKILL in XE epoch 2/9, step 3; so all were ended; see " in message
    assert f"see {tmp_path}/run/attempt_0/1/stderr.log; run the same command" in message


def test_the_log_of_process_0_is_named(tmp_path):
    (tmp_path / "0.log").touch()
    message = told(tmp_path, {0: -signal.SIGKILL, 1: LOST}, reason="process 0 (host, pid 11) ended")
    assert f"see {tmp_path}/0.log; run" in message


@pytest.mark.parametrize("code", [-signal.SIGKILL, -signal.SIGTERM])
def test_who_hangs_is_told_though_torchrun_ended_it(tmp_path, code):
    message = told(tmp_path, {0: LOST, 1: code}, reason=HANGS)
    assert message.startswith(f"{HANGS} in XE epoch 2/9, step 3; so all were ended")
    assert f"see {tmp_path}/run/attempt_0/1/stderr.log; run" in message


def test_an_error_of_a_process_is_told_in_its_own_words(tmp_path):
    message = told(
        tmp_path,
        {0: LOST, 1: 1},
        reason=GONE,
        said="[rank1]: Traceback\n[rank1]: error: row 7 is damaged\n\n",
    )
    assert ") failed: error: row 7 is damaged in XE epoch 2/9, step 3; so all" in message


@pytest.mark.parametrize("codes", [{0: 1, 1: LOST}, {0: STOPPED, 1: STOPPED}])
def test_what_process_0_has_said_is_not_said_again(tmp_path, codes):
    assert told(tmp_path, codes) == 1


def test_a_signal_to_another_process_is_told(tmp_path):
    assert told(tmp_path, {0: LOST, 1: STOPPED}, reason=GONE).startswith("a signal stopped process 1, so all")


@pytest.mark.parametrize(
    ("code", "how"),
    [(-signal.SIGKILL, "was ended by SIGKILL"), (1, "failed: error: row 7 is damaged")],
)
def test_the_cause_is_told_where_the_others_were_stopped_for_it(tmp_path, code, how):
    """Processes that exchange nothing, as those of features, do not lose each other: torchrun stops them."""
    message = told(tmp_path, {0: STOPPED, 1: code}, said="error: row 7 is damaged\n")
    assert message.startswith("process 1 of 2 (pid 12 on ") and how in message


def test_one_process_makes_no_process_group(monkeypatch):
    monkeypatch.delenv(BY_TORCHRUN, raising=False)
    seen = []
    run_in_processes(1, "pipeline.clip", lambda world: seen.append((world, dist.is_initialized())))
    assert seen == [(ALONE, False)]


def test_a_process_ends_whose_starter_is_gone(monkeypatch):
    @contextmanager
    def late():
        time.sleep(5)
        yield ALONE

    monkeypatch.setenv(BY_TORCHRUN, "run")
    # Linux gives no process this number.
    monkeypatch.setenv(STARTED_BY, str(2**30))
    monkeypatch.delenv(LOGS, raising=False)
    monkeypatch.setattr(processes, "joined", late)
    with stop_request(), pytest.raises(SystemExit) as end:
        run_in_processes(1, "pipeline.train_xe", lambda world: pytest.fail("it began"))
    assert end.value.code == STOPPED


def launch(script: str, folder: Path) -> None:
    """Run a stage with a launcher that is this shell script."""
    (folder / "launcher").write_text(script)
    launcher = f"sh {folder}/launcher --nodes $NODES"
    run_in_processes("auto", "pipeline.train_xe", lambda world: pytest.fail("alone"), launcher=launcher)


def test_a_launcher_starts_the_stage(tmp_path, monkeypatch):
    monkeypatch.setenv("NODES", "3")
    launch(f'echo "$@ ${LAUNCHED}" > {tmp_path}/given', tmp_path)
    assert (tmp_path / "given").read_text() == "--nodes 3 -m pipeline.train_xe yes\n"


@pytest.mark.parametrize(("end", "told"), [("exit 7", "exit code 7"), ("kill -9 $$", "SIGKILL")])
def test_a_launcher_that_fails_is_told(tmp_path, end, told):
    with pytest.raises(UserError, match=rf"runtime.launcher \(sh .*\) ended pipeline.train_xe with {told};"):
        launch(end, tmp_path)


def test_a_launcher_without_torchrun_does_not_start_itself_again(tmp_path, monkeypatch):
    monkeypatch.delenv(BY_TORCHRUN, raising=False)
    monkeypatch.setenv(LAUNCHED, "yes")
    with pytest.raises(UserError, match="without torchrun"):
        launch("exit 0", tmp_path)


def test_a_signal_is_passed_on_to_the_launcher_and_its_end_awaited(tmp_path):
    saves = f"kill $!; echo saved > {tmp_path}/saved; exit 1"
    script = f"trap '{saves}' TERM; sleep 9 & touch {tmp_path}/here; wait $!"

    def interrupt() -> None:
        while not (tmp_path / "here").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with stop_request(), pytest.raises(SystemExit) as end:
        launch(script, tmp_path)
    assert end.value.code == 1 and (tmp_path / "saved").read_text() == "saved\n"


def test_logs_stay_until_the_stage_is_started_again(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    first = new_log_folder("pipeline.train_xe")
    assert first == tmp_path / ".resume" / "logs" / f"train_xe-{platform.node()}-{os.getpid()}"
    (first / "0.log").touch()
    # Linux gives no process this number.
    over, elsewhere = (first.with_name(f"train_xe-{name}-{2**30}") for name in (platform.node(), "far.away"))
    over.mkdir()
    elsewhere.mkdir()
    assert list(new_log_folder("pipeline.train_xe").iterdir()) == []
    assert not over.exists() and elsewhere.exists()


def test_what_is_said_goes_to_the_console_and_to_the_log(tmp_path, monkeypatch, capsys):
    # Put back at the end of the test.
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    keep_log(tmp_path / "0.log")
    print("a step", flush=True)
    print("a warning", file=sys.stderr)
    assert (tmp_path / "0.log").read_text() == "a step\na warning\n"
    assert capsys.readouterr() == ("a step\n", "a warning\n")
    assert not sys.stderr.isatty()
