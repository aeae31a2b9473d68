"""Memory that is freed and taken again costs no page faults, unless the user chose otherwise."""

import os
import subprocess
import sys

import pytest

from fsgr_model.kernels.freed_memory import CHOSEN_BY_USER, KEPT_BYTES

ROUNDS = 20
PAGES = KEPT_BYTES // 4 // 4096
PROGRAM = f"""
import resource, sys
from fsgr_model.kernels.freed_memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def step():
    blocks = [bytearray({KEPT_BYTES} // 16) for _ in range(4)]
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
before = faults()
for _ in range({ROUNDS}):
    step()
print(faults() - before)
"""


def faults_of(mode: str, **chosen: str) -> int:
    """Page faults of some rounds of taking and freeing four blocks."""
    environment = {name: value for name, value in os.environ.items() if name not in CHOSEN_BY_USER}
    command = [sys.executable, "-c", PROGRAM, mode]
    environment |= chosen
    done = subprocess.run(command, env=environment, capture_output=True, check=True, encoding="utf-8")
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_memory_is_used_again():
    assert faults_of("keep") < PAGES
    assert faults_of("leave") > ROUNDS * PAGES / 2


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_the_users_own_setting_wins():
    assert faults_of("keep", MALLOC_TRIM_THRESHOLD_="131072") > ROUNDS * PAGES / 2
