"""PyTorch's threads give way where another program wants their cores.

On Linux PyTorch shares out each operation among threads of libgomp. One that is done early spins for
milliseconds, in the hope that the next operation comes at once. On free cores that is right: to sleep instead
makes a step of a small network a third slower. Where another program runs too, a thread spins through the
very time in which its partner could have worked, and a step on two cores takes 3.6 times as long when one of
them is taken (docs/experiments/shared_core.md).

libgomp has a rule for that: it spins briefly while it manages more threads than there are cores. It does not
know of other programs, but Linux tells each thread how long it has waited for a core. While that is much,
`giving_way` holds further threads of libgomp, which sleep. Nothing else changes: each operation is shared out
among as many threads as before, and its result has the same bytes.
"""

import importlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A user who has set one of these has chosen how threads wait.
CHOSEN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
THREADS = Path("/proc/self/task")
LOOK_SECONDS = 0.25
# Seconds that all threads together wait for a core, per second. While they spin, 0.00 to 0.07 were seen on
# free cores, 0.7 beside another program.
MUCH = 0.25
# A program that runs for a moment is not worth it: to sleep on free cores is what costs.
LOOKS_IN_A_ROW = 2
# For so many seconds they sleep before the next look.
SHORTEST_REST, LONGEST_REST = 1.0, 8.0
# So many numbers are shared out among all threads by any elementwise operation.
NUMBERS = 2**21


@contextmanager
def giving_way() -> Iterator[None]:
    """Within this block PyTorch's threads spin only while no other program waits for their cores.

    Does nothing where the user has chosen how they wait, or where the system does not tell of waiting.
    """
    if any(name in os.environ for name in CHOSEN) or seconds_waited() is None:
        yield
        return
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(done,), name="giving way", daemon=True)
    watch.start()
    try:
        yield
    finally:
        done.set()
        watch.join()


def seconds_waited() -> float | None:
    """How long the present threads of this process have waited for a core; None where Linux does not say."""
    nanoseconds = 0
    try:
        for thread in THREADS.iterdir():
            nanoseconds += int((thread / "schedstat").read_text(encoding="ascii").split()[1])
    except ProcessLookupError:
        # A thread ended meanwhile.
        return seconds_waited()
    except FileNotFoundError:
        return None
    return nanoseconds / 1e9


def _watch(done: threading.Event) -> None:
    """Look how much waiting there is while the threads spin; while it is much, let them sleep for a time.

    Threads that sleep wait for each other on one core too, so that only spinning ones tell when it is over.
    """
    rest = SHORTEST_REST
    while not done.is_set():
        if "torch" not in sys.modules or any(_share_waited(done) < MUCH for _ in range(LOOKS_IN_A_ROW)):
            rest = SHORTEST_REST
            done.wait(LOOK_SECONDS)
            continue
        with further_threads():
            done.wait(rest)
        rest = min(2 * rest, LONGEST_REST)


def _share_waited(done: threading.Event) -> float:
    """Seconds that all threads together wait for a core, per second, in the time of a look."""
    start, waited = time.monotonic(), seconds_waited() or 0.0
    done.wait(LOOK_SECONDS)
    return ((seconds_waited() or 0.0) - waited) / (time.monotonic() - start)


@contextmanager
def further_threads() -> Iterator[None]:
    """Within this block libgomp manages more threads than there are cores; the further ones sleep."""
    torch = importlib.import_module("torch")
    team = torch.get_num_threads()
    teams = 0 if team < 2 else -(-(len(os.sched_getaffinity(0)) + 1 - team) // (team - 1))
    release = threading.Event()

    def hold() -> None:
        # The first operation of a thread gives it a team of its own, which ends with it.
        torch.zeros(NUMBERS, dtype=torch.uint8).add_(1)
        release.wait()

    holders = [threading.Thread(target=hold, name="holds a team", daemon=True) for _ in range(teams)]
    for holder in holders:
        holder.start()
    try:
        yield
    finally:
        release.set()
        for holder in holders:
            holder.join()
