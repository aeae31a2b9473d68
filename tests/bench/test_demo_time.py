"""The seconds of a run are shared among its stages, and its page says by how much they changed."""

import subprocess
import sys

import pytest

from bench.demo_time import START, Run, full_name, markdown, stage_seconds, timed_lines
from fsgr_model.runtime.errors import UserError

LINES = [
    (12.0, "Running stage 'dataset':\n"),
    (12.5, "> python -m pipeline.dataset\n"),
    (20.0, "Running stage 'clip':\n"),
    (21.0, "somebody says Running stage 'codebook':\n"),
]


def test_a_stage_lasts_until_the_next_one():
    seconds = stage_seconds(LINES, start=10.0, end=50.0)
    assert seconds == {START: 2.0, "dataset": 8.0, "clip": 30.0}
    assert sum(seconds.values()) == 40.0


def test_lines_have_the_time_at_which_they_came(tmp_path):
    program = "import time; print('first'); time.sleep(0.2); print('second')"
    (first, one), (second, two) = timed_lines([sys.executable, "-c", program], tmp_path)
    assert (one, two) == ("first\n", "second\n")
    assert second - first > 0.15


def test_a_run_that_fails_is_no_time(tmp_path):
    with pytest.raises(UserError, match="no such pipeline"):
        timed_lines([sys.executable, "-c", "raise SystemExit('no such pipeline')"], tmp_path)


def test_the_page_has_medians_and_paired_ratios():
    before = [Run("a" * 40, 100.0 + extra, 180.0, {"clip": 90.0 + extra, "vocab": 10.0}) for extra in (0, 20)]
    after = [Run("b" * 40, seconds, 90.0, {"clip": seconds - 5, "vocab": 5.0}) for seconds in (50.0, 66.0)]
    page = markdown(list(zip(before, after, strict=True)))
    assert "| clip | 100.0 | 53.0 | 0.53 |" in page
    assert "| **all** | 110.0 | 58.0 | 0.53 |" in page
    assert "median 0.525 (from 0.500 to 0.550); of processor time: median 0.500" in page


def test_a_commit_that_is_missing_is_said(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="'7618f21' is no commit"):
        full_name("7618f21")
