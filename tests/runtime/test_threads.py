"""Threads of PyTorch give way to other programs, and nothing else about them changes."""

import os
import sys
import threading
import time

import pytest
import torch

from fsgr_model.runtime import threads
from fsgr_model.runtime.threads import CHOSEN, further_threads, giving_way, seconds_waited

pytestmark = pytest.mark.skipif(seconds_waited() is None, reason="this system does not tell of waiting")


@pytest.fixture
def nothing_chosen(monkeypatch):
    for name in CHOSEN:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def quick(monkeypatch, nothing_chosen):
    """Looks of no time, and a record of when threads are held: True when taken, False when released."""
    record = []

    class Held:
        def __enter__(self):
            record.append(True)

        def __exit__(self, *_):
            record.append(False)

    monkeypatch.setattr(threads, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(threads, "SHORTEST_REST", 0.001)
    monkeypatch.setattr(threads, "further_threads", Held)
    return record


def thread_count():
    """Of the system, libgomp's among them."""
    return len(list(threads.THREADS.iterdir()))


def until(condition):
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    assert condition()


def test_threads_are_held_while_there_is_much_waiting_and_released_when_it_ends(quick, monkeypatch):
    share = [0.0]
    monkeypatch.setattr(threads, "_share_waited", lambda done: done.wait(0.001) or share[0])
    with giving_way():
        time.sleep(0.02)
        assert not quick
        share[0] = threads.MUCH
        until(lambda: quick)
        share[0] = 0.0
        until(lambda: quick[-1] is False)
        count = len(quick)
        time.sleep(0.02)
        assert len(quick) <= count + 2


def test_nothing_is_held_before_pytorch_is_there(quick, monkeypatch):
    monkeypatch.setattr(threads, "_share_waited", lambda done: done.wait(0.001) or 9.0)
    monkeypatch.delitem(sys.modules, "torch")
    with giving_way():
        time.sleep(0.02)
    assert not quick


@pytest.mark.parametrize("name", CHOSEN)
def test_a_setting_of_the_user_wins(nothing_chosen, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    before = threading.active_count()
    with giving_way():
        assert threading.active_count() == before


@pytest.mark.usefixtures("nothing_chosen")
def test_it_watches_inside_the_block_only():
    before = threading.active_count()
    with pytest.raises(ValueError, match="inside"), giving_way():
        assert threading.active_count() == before + 1
        raise ValueError("inside")
    assert threading.active_count() == before


def test_there_are_more_threads_than_cores_until_the_block_ends(monkeypatch):
    threads_before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.zeros(threads.NUMBERS).add_(1)
        before = thread_count()
        with further_threads():
            until(lambda: thread_count() >= before + 2)
        until(lambda: thread_count() <= before)
    finally:
        torch.set_num_threads(threads_before)


def test_waiting_is_counted():
    """Two threads that never sleep, on one core, wait for each other half of the time."""
    cores = os.sched_getaffinity(0)
    before = seconds_waited()
    results = []

    def spin():
        os.sched_setaffinity(0, {min(cores)})
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            sum(range(100))
        results.append(seconds_waited())

    both = [threading.Thread(target=spin) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert max(results) > before
