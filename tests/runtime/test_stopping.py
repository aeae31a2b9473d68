"""A signal ends a command soon, and never in the middle of what must not be half done."""

import ast
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from fsgr_model.runtime import stopping
from fsgr_model.runtime.errors import UserError, run_command
from fsgr_model.runtime.resources import explain
from fsgr_model.runtime.stopping import SIGNALS, Overdue, Stopped, stop_request

ROOT = Path(__file__).parents[2]
# A process whose child watches it.
WATCHED = """
import os, signal, sys, time
from fsgr_model.runtime.stopping import end_with_parent
parent, late = os.getpid(), sys.argv[1] == "late"
if os.fork() == 0:
    if late:
        print(os.getpid(), flush=True)
        while os.getppid() == parent:
            time.sleep(0.01)
    end_with_parent(parent)
    print(os.getpid(), flush=True)
    time.sleep(60)
time.sleep(60)
"""


def send(number):
    os.kill(os.getpid(), number)


@pytest.fixture
def heard_signals():
    """Tests that run under nohup are born with one of them ignored."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.usefixtures("heard_signals")
def test_a_signal_stops_at_once(number):
    before = signal.getsignal(number)
    reached = []
    with pytest.raises(Stopped, match=f"stopped by {number.name}; there was nothing"), stop_request():
        send(number)
        reached.append(1)
    assert not reached
    assert signal.getsignal(number) == before


def test_a_signal_waits_for_the_end_of_what_holds_it_back():
    reached = []
    with pytest.raises(Stopped), stop_request() as stop:
        with stop.deferred():
            send(signal.SIGTERM)
            send(signal.SIGINT)
            reached.append("inside")
        reached.append("behind")
    assert reached == ["inside"]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_takes_longer_than_the_grace_is_given_up(monkeypatch):
    monkeypatch.setattr(stopping, "GRACE_SECONDS", 0.1)
    start = time.monotonic()
    with pytest.raises(Overdue), stop_request() as stop, stop.deferred():
        send(signal.SIGTERM)
        time.sleep(5)
    assert time.monotonic() - start < 2


def test_the_grace_and_a_save_fit_into_ten_seconds():
    assert stopping.GRACE_SECONDS <= 8


def test_a_signal_to_a_worker_is_not_taken_for_one_to_the_command():
    """Ctrl-C reaches every process of a terminal; SIGTERM is how a pool ends its workers."""
    with stop_request():
        child = os.fork()
        if child == 0:
            send(signal.SIGINT)
            send(signal.SIGTERM)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_a_stopped_command_says_so_and_does_not_exit_with_0():
    with pytest.raises(SystemExit, match=r"stopped by SIGTERM; .*; run the same command to continue") as end:
        run_command(lambda: send(signal.SIGTERM))
    assert "\n" not in str(end.value.code)


def test_no_handler_of_errors_takes_a_stop_for_one():
    assert not issubclass(Stopped, Exception)
    with pytest.raises(SystemExit, match="error: mistake"):
        run_command(lambda: (_ for _ in ()).throw(UserError("mistake")))


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_worker_ends_when_its_parent_is_killed(when):
    """Also if that happens before it looks for the first time."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", WATCHED, when], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()


def test_every_worker_process_ends_with_its_parent():
    """One that waits for work from a process that was killed would wait for ever."""
    files = [path for room in ("fsgr_model", "pipeline") for path in (ROOT / room).rglob("*.py")]
    sources = [path.read_text(encoding="utf-8") for path in files]
    starting = [text for text in sources if re.search(r"(ProcessPoolExecutor|DataLoader)\(", text)]
    nodes = [node for text in starting for node in ast.walk(ast.parse(text))]
    calls = {ast.unparse(node) for node in nodes if isinstance(node, ast.Call)}
    found = {call for call in calls if re.match(r"(\w+\.)*(ProcessPoolExecutor|DataLoader)\(", call)}
    assert len(found) == 4
    assert not {call for call in found if not re.search("end_with_parent|_begin_worker", call)}


def test_a_pool_that_lost_a_process_is_told_in_one_line():
    with ProcessPoolExecutor(1) as pool, pytest.raises(BrokenProcessPool) as lost:
        pool.submit(os._exit, 9).result()
    assert explain(lost.value).startswith(
        "a worker process was ended from outside (A process in the process pool"
    )
