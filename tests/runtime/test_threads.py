"""Threads of PyTorch wait briefly in every stage and command, unless the user has chosen."""

import os
import subprocess
import sys

import pytest

from fsgr_model.runtime.threads import CHOSEN, ROUNDS, wait_briefly


@pytest.mark.parametrize("chosen", [None, *CHOSEN])
def test_the_users_own_choice_wins(chosen, monkeypatch):
    for name in CHOSEN:
        monkeypatch.delenv(name, raising=False)
    if chosen:
        monkeypatch.setenv(chosen, "7")
    # What is set is taken back after the test.
    monkeypatch.setattr(os, "environ", dict(os.environ))
    wait_briefly()
    assert [os.environ.get(name) for name in CHOSEN] == [
        "7" if name == chosen else None if chosen or name != CHOSEN[0] else ROUNDS for name in CHOSEN
    ]


@pytest.mark.parametrize("started", ["pipeline", "fsgr_model.__main__"])
def test_it_is_set_before_pytorch_is_there(started):
    main = "" if started == "pipeline" else "sys.argv[1:] = ['--version']; m.main(); "
    code = (
        f"import sys, os, {started} as m; {main}print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
    )
    environment = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-2:] == ["False", ROUNDS]
