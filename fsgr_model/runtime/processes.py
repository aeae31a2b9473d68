"""A stage as several processes: started here by torchrun's Python interface, or joined where torchrun did.

The console shows process 0, the others write to files. If a process fails, torchrun ends all of them within
seconds, and one line says which and why. A signal to the stage goes to all processes, which save and end.
"""

import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NoReturn

import psutil

from fsgr_model.runtime.artifacts import project_root
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.gpus import taken_gpus
from fsgr_model.runtime.resume import RESUME
from fsgr_model.runtime.stopping import Stopped, end_with_parent, stop_request
from fsgr_model.runtime.two_outputs import keep_log
from fsgr_model.runtime.world import ALONE, ENDED, LOST, OthersLost, World, joined

# Set by torchrun, and by this module in the processes that it starts itself.
BY_TORCHRUN, LOGS = "TORCHELASTIC_RUN_ID", "FSGR_PROCESS_LOGS"
# The process that starts the others, which end with it; torchrun itself does not tell.
STARTED_BY = "FSGR_STARTED_BY"
# Set for what `runtime.launcher` starts.
LAUNCHED = "FSGR_LAUNCHED"
# The exit code of a process that was told to end, and has said so.
STOPPED = 77
# The file of a process that lost the others: in which step, and who does not answer.
LOSS = ".lost"
# What process 0 says; torchrun has the files of the others in folders of their rank.
CONSOLE, OF_OTHERS = "0.log", "*/attempt_*/{rank}/stderr.log"
# How processes end for no cause of their own: torchrun ends those that are left, by SIGKILL after 30 s.
EFFECTS = (LOST, STOPPED, -signal.SIGTERM)


def run_in_processes(
    asked: int | Literal["auto"], module: str, work: Callable[[World], None], *, launcher: str | None = None
) -> None:
    """Do the work of the stage `module`: alone, as one of the processes that torchrun started, or by starting
    as many as are asked for; `auto` is one per GPU, and one on a CPU. A `launcher` starts them in our place.

    Raises:
        UserError: a process failed; the message says which one and why.
    """
    if BY_TORCHRUN in os.environ:
        _work_with_others(work)
        return
    if launcher is not None:
        launch(launcher, module)
        return
    with taken_gpus(asked) as gpus:
        count = max(1, gpus) if asked == "auto" else asked
        if count == 1:
            work(ALONE)
        else:
            start_processes(module, count)


def _work_with_others(work: Callable[[World], None]) -> None:
    if LOGS in os.environ and os.environ["RANK"] == "0":
        keep_log(Path(os.environ[LOGS]) / CONSOLE)
    try:
        # It may be gone already.
        end_with_parent(int(os.environ.get(STARTED_BY, os.getppid())), signal.SIGTERM)
        with joined() as world:
            work(world)
    except Stopped as stop:
        print(stop, file=sys.stderr, flush=True)
        sys.exit(STOPPED)
    except OthersLost as lost:
        if LOGS not in os.environ:
            sys.exit(f"error: {lost.message}; run the same command to continue")
        # The process that started this one tells.
        (Path(os.environ[LOGS]) / f"{lost.rank}{LOSS}").write_text(f"{lost.place}\n{lost.reason}\n", "utf-8")
        sys.exit(LOST)


def launch(launcher: str, module: str) -> None:
    """Run `launcher -m module` by a shell, and wait for its end; a signal is passed on to it as SIGTERM.

    Raises:
        UserError: it ended with another exit code than 0, or started the stage without torchrun.
    """
    if LAUNCHED in os.environ:
        raise UserError(
            f"runtime.launcher ({launcher}) started {module} without torchrun; let it end with torchrun and "
            "its options, as in `srun torchrun --nnodes 2 ...`"
        )
    with stop_request() as stop:
        try:
            # In a session of its own, so that Ctrl-C of a terminal reaches it once, and from here.
            with stop.deferred():
                command = subprocess.Popen(
                    f"exec {launcher} -m {module}",
                    shell=True,
                    env={**os.environ, LAUNCHED: "yes"},
                    start_new_session=True,
                )
            code = command.wait()
        except Stopped:
            command.send_signal(signal.SIGTERM)
            command.wait()
            # Process 0 has said what it saved.
            sys.exit(1)
    if code:
        how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
        raise UserError(
            f"runtime.launcher ({launcher}) ended {module} with {how}; what its processes said stands above; "
            "see to it, and run the same command to continue"
        )


def start_processes(module: str, count: int) -> None:
    """Run `python -m module` in `count` processes on this machine, and wait for their end.

    Raises:
        UserError: a process other than rank 0 failed, or any was ended by the system.
        SystemExit: rank 0 failed and has said why, or a signal ended all.
    """
    # They take seconds to import.
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, launch_agent

    logs = new_log_folder(module)
    os.environ |= {LOGS: str(logs), STARTED_BY: str(os.getpid())}
    # torchrun would give each a single thread.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=f"{module}-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(logs), redirects={rank: Std.ALL for rank in range(1, count)}),
    )
    # Its own report of a failure is a page; ours is a line.
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        launch_agent(config, sys.executable, ["-u", "-m", module])
    except SignalException:
        # Process 0 has said what it saved.
        sys.exit(1)
    except ChildFailedError as error:
        _tell({rank: (one.exitcode, one.pid) for rank, one in error.failures.items()}, logs, count)


def new_log_folder(module: str) -> Path:
    """A folder for what each process of a stage says. It stays until the next start of the stage."""
    machine = platform.node()
    parent, name = project_root() / RESUME / "logs", f"{module.rpartition('.')[2]}-{machine}"
    for old in parent.glob(f"{name}-*"):
        if not psutil.pid_exists(int(old.name.rpartition("-")[2])):
            shutil.rmtree(old, ignore_errors=True)
    folder = parent / f"{name}-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"what each process says is kept in {folder}", flush=True)
    return folder.resolve()


def _tell(failures: dict[int, tuple[int, int]], logs: Path, count: int) -> NoReturn:
    """End with the cause, given exit code and process id by rank: one that only lost the others is none."""
    codes = [code for code, _ in failures.values()]
    rank = min(failures, key=lambda rank: (failures[rank][0] in EFFECTS, rank))
    code, pid = failures[rank]
    first = failures[0][0] if 0 in failures else 0
    # Where processes exchange nothing, torchrun stops those that are left: that is no cause.
    stopped_all = code in EFFECTS and STOPPED in codes
    if (stopped_all and first == STOPPED) or (rank == 0 and code > 0 and code != LOST):
        # Process 0 has said why.
        sys.exit(1)
    if stopped_all:
        stopped = min(rank for rank, (code, _) in failures.items() if code == STOPPED)
        sys.exit(f"a signal stopped process {stopped}, so all were ended; run the same command to continue")
    place, reason = _loss(logs)
    # torchrun also ends one that hangs.
    if reason and (code in EFFECTS or not reason.endswith(ENDED)):
        what = f"{reason}{place}"
        rank = int(reason.split()[1]) if reason.startswith("process ") else rank
    else:
        by_signal = f"was ended by {signal.Signals(-code).name}" if code < 0 else None
        how = by_signal or f"failed: {_last_line(logs, rank)}"
        what = f"process {rank} of {count} (pid {pid} on {platform.node()}) {how}{place}"
    raise UserError(f"{what}; so all were ended; see {_log_of(logs, rank)}; run the same command to continue")


def _loss(logs: Path) -> tuple[str, str]:
    """Where the first process that lost others was, and whom it lost; empty if none did."""
    for note in sorted(logs.glob(f"*{LOSS}")):
        place, reason = note.read_text(encoding="utf-8").splitlines()
        return (f" in {place}" if place else ""), reason
    return "", ""


def _last_line(logs: Path, rank: int) -> str:
    """The last that a process wrote to standard error."""
    log = _log_of(logs, rank)
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    # PyTorch marks the lines of a traceback.
    return last.removeprefix(f"[rank{rank}]: ")


def _log_of(logs: Path, rank: int) -> Path:
    """The file of what a process said; the folder of all where it was not begun."""
    return next(iter(logs.glob(CONSOLE if rank == 0 else OF_OTHERS.format(rank=rank))), logs)
