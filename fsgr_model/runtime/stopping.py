"""On SIGTERM, Ctrl-C or a closed terminal a command ends within seconds, saves its state and says where.

As a rule a signal raises `Stopped` wherever the command is. A block that must not be left half done, such as
a training step, asks `StopRequest` to defer the signal until the block has ended.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# A step that takes longer than this is abandoned; together with saving that is less than ten seconds.
GRACE_SECONDS = 7.0
SECONDS_BETWEEN_LOOKS = 1.0


class Stopped(KeyboardInterrupt):
    """The command was told to end. It is not an `Exception`, so that no error handler catches it."""

    def __init__(self, signal_name: str) -> None:
        super().__init__(signal_name)
        self.signal_name = signal_name
        self.kept: str | None = None

    def __str__(self) -> str:
        kept = self.kept or "there was nothing to save yet"
        return f"stopped by {self.signal_name}; {kept}; run the same command to continue"


class Overdue(Stopped):
    """The current step did not end in time: the state that it changes may be half changed."""


class StopRequest:
    """The signal handler within `stop_request`."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._process = os.getpid()
        self._holds_back = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # This is a worker; the process that it works for ends it, by SIGTERM.
            if number == signal.SIGTERM:
                os._exit(1)
            return
        if self.signal_name is not None:
            return
        self.signal_name = signal.Signals(number).name
        if not self._holds_back:
            raise Stopped(self.signal_name)
        signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A signal within the block takes effect after it, or as `Overdue` when the grace period is over."""
        self._holds_back = True
        try:
            yield
        finally:
            self._holds_back = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self.signal_name is not None:
            raise Stopped(self.signal_name)

    def give_up(self, number: int, frame: FrameType | None) -> None:
        """Handle the alarm at the end of the grace period."""
        if self._holds_back and self.signal_name is not None:
            raise Overdue(self.signal_name)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch the signals that end a command, within the block. Only the main thread can do so.

    A signal that was set to be ignored (`nohup`) stays ignored, except Ctrl-C, which shells ignore for every
    command in the background.
    """
    request = StopRequest()
    handlers: dict[signal.Signals, Any] = {signal.SIGALRM: request.give_up}
    for number in SIGNALS:
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
            handlers[number] = request
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send this process a signal once `parent` is gone, so that no orphan keeps running.

    The parent passes its own process id, so that a worker also notices a parent that was gone before.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()
