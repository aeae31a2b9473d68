"""Runs at a time take different GPUs of a machine; the number of GPUs is a stand-in's."""

import multiprocessing
import os
import tempfile
import threading
import time

import pytest
import torch

from fsgr_model.runtime import gpus
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.gpus import VISIBLE, taken_gpus


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Sets how many GPUs there are; the list gets those that are used by this process alone."""
    used = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv(VISIBLE, "")
    monkeypatch.delenv(VISIBLE)
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    monkeypatch.setattr(gpus, "SECONDS_BETWEEN_LOOKS", 0.01)

    def has(count):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        return used

    return has


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_is_locked_without_a_choice(machine, tmp_path, count):
    used = machine(count)
    with taken_gpus("auto") as first, taken_gpus("auto") as second:
        assert first == second == count
    assert used == [] and VISIBLE not in os.environ
    assert list(tmp_path.iterdir()) == []


def test_each_run_takes_another_one(machine):
    used = machine(3)
    with taken_gpus(1) as first, taken_gpus(1) as second:
        assert (first, second) == (1, 1)
        with taken_gpus("auto") as rest:
            assert rest == 1
    assert used == [0, 1, 2]
    with taken_gpus(1):
        assert used == [0, 1, 2, 0]


def test_auto_takes_all_that_are_free(machine):
    machine(3)
    with taken_gpus(1), taken_gpus("auto") as rest:
        assert rest == 2 and os.environ[VISIBLE] == "1,2"


def test_those_that_cuda_was_given_count(machine, monkeypatch):
    used = machine(2)
    monkeypatch.setenv(VISIBLE, "5,3")
    with taken_gpus(1):
        with taken_gpus(1):
            assert used == [0, 1]
        monkeypatch.setenv(VISIBLE, "4,5,3")
        machine(3)
        with taken_gpus("auto") as rest:
            assert rest == 2 and os.environ[VISIBLE] == "4,3"


def test_a_run_waits_until_so_many_are_free(machine, capsys):
    machine(2)
    ended, taken = threading.Event(), []

    def other():
        with taken_gpus(2):
            taken.append(ended.is_set())

    with taken_gpus(1):
        waits = threading.Thread(target=other)
        waits.start()
        waits.join(0.1)
        assert waits.is_alive()
        # It holds none meanwhile.
        with taken_gpus(1):
            ended.set()
    waits.join(10)
    assert taken == [True]
    assert "1 of 2 GPUs are free, this stage needs 2; waiting" in capsys.readouterr().out


def test_a_lock_ends_with_its_process(machine):
    used = machine(2)
    has_it = multiprocessing.get_context("fork").Event()

    def hold():
        with taken_gpus(1):
            has_it.set()
            time.sleep(60)

    other = multiprocessing.get_context("fork").Process(target=hold, daemon=True)
    other.start()
    assert has_it.wait(30)
    with taken_gpus(1):
        assert used == [1]
    other.kill()
    other.join()
    with taken_gpus(1):
        assert used == [1, 0]


def test_more_than_there_are_is_refused(machine):
    machine(2)
    with (
        pytest.raises(UserError, match=r"runtime\.processes is 3, but this machine has 2 GPUs"),
        taken_gpus(3),
    ):
        pass
