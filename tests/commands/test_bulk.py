"""`fsgr caption --out`: every picture has one line, whatever ended the runs before; networks are free."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from fsgr_model.commands.bulk import Pictures, caption_into
from fsgr_model.commands.bulk_file import Done
from fsgr_model.commands.bulk_workers import Job
from fsgr_model.runtime.errors import UserError
from tests.worlds.free_network import FreeCaptioner, Killer
from tests.worlds.project import ROOT

FREE = Job(FreeCaptioner)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """11 pictures of a colour each, in two folders."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for number in range(11):
        place = folder / "below" if number % 2 else folder
        Image.new("RGB", (2, 2), (number, 0, 0)).save(place / f"{number}.png")
    return folder


def run(out: Path, *paths: Path, job: Job = FREE, processes: int = 1, beside: bool = False) -> bool:
    return caption_into(out, paths, job, processes=processes, beside=beside)


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in out.read_bytes().splitlines()]


def test_each_picture_has_a_line(pictures, tmp_path, capsys):
    out = tmp_path / "out" / "captions.jsonl"
    assert run(out, pictures)
    found = {row["path"]: row["caption"] for row in rows(out)}
    assert len(rows(out)) == len(found) == 11
    assert found[str(pictures / "below" / "7.png")] == "colour 7-0-0"
    assert rows(out)[0].keys() == {"path", "caption", "log_probability", "model"}
    assert "captions: 11/11 images in" in capsys.readouterr().out


def test_a_run_that_ended_at_any_byte_goes_on_to_the_same_file(pictures, tmp_path):
    out = tmp_path / "captions.jsonl"
    run(out, pictures)
    whole = out.read_bytes()
    for end in {*range(0, len(whole), 53), *range(len(whole) - 3, len(whole))}:
        out.write_bytes(whole[:end])
        assert run(out, pictures)
        assert out.read_bytes() == whole, end


def test_what_is_done_is_not_captioned_again(pictures, tmp_path, monkeypatch):
    out = tmp_path / "captions.jsonl"
    run(out, pictures)
    before = out.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(FreeCaptioner, "describe", lambda *_: pytest.fail("captioned again"))
        assert run(out, pictures)
    Image.new("RGB", (2, 2), (99, 0, 0)).save(pictures / "new.png")
    assert run(out, pictures)
    assert out.read_bytes().startswith(before) and rows(out)[-1]["caption"] == "colour 99-0-0"


def test_folders_in_folders_and_names_given_twice_count_once(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    below = pictures / "below"
    given = [pictures, below, below / "1.png", Path("pictures"), Path("pictures/below/../below/1.png")]
    for order in (given, given[::-1]):
        found = [path.resolve() for path in Pictures(order).walk()]
        assert Counter(found) == dict.fromkeys(map(Path.resolve, pictures.rglob("*.png")), 1)


def test_a_picture_that_cannot_be_read_has_no_line_and_is_tried_again(pictures, tmp_path, capsys):
    out, broken = tmp_path / "captions.jsonl", pictures / "3.png"
    broken.write_text("no picture")
    assert not run(out, pictures)
    assert "of 12 pictures these were not captioned: 1 (.png: 1)" in capsys.readouterr().err
    assert len(rows(out)) == 11
    Image.new("RGB", (2, 2), (3, 3, 3)).save(broken)
    assert run(out, pictures)
    assert rows(out)[-1]["caption"] == "colour 3-3-3"


def test_texts_beside_pictures_are_written_also_where_only_they_are_missing(pictures, tmp_path, capsys):
    out = tmp_path / "captions.jsonl"
    run(out, pictures)
    mine, torn = pictures / "2.txt", pictures / "4.txt"
    mine.write_text("my own notes")
    torn.write_text("colo")
    assert not run(out, pictures, beside=True)
    assert (mine.read_text(), torn.read_text()) == ("my own notes", "colour 4-0-0\n")
    assert f"{mine}: holds another text" in capsys.readouterr().err
    mine.unlink()
    Image.new("RGB", (2, 2), (12, 0, 0)).save(pictures / "12.png")
    assert run(out, pictures, beside=True)
    assert sorted(pictures.rglob("*.txt")) == sorted(
        path.with_suffix(".txt") for path in pictures.rglob("*.png")
    )
    assert (pictures / "12.txt").read_text() == "colour 12-0-0\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xd8\xff a photograph", "line 1 is none that"),
        (b'{"path": "a", "caption": "b", "model": "c"}\nnotes\n', "line 2 is none that"),
        (b'{"path": "a", "caption": "b", "model": "c"}\n', "was made by another model"),
        (
            b"".join(b'{"path": "a", "caption": "b", "model": "%d"}\n' % n for n in (1, 2)),
            "of several models",
        ),
    ],
)
def test_a_file_of_something_else_is_left_as_it_is(pictures, tmp_path, content, reason):
    out = tmp_path / "captions.jsonl"
    out.write_bytes(content)
    with pytest.raises(UserError, match=reason):
        run(out, pictures)
    assert out.read_bytes() == content


@pytest.mark.parametrize(
    "other", [Job(partial(FreeCaptioner, weight=2.0)), Job(FreeCaptioner, detailed=True)]
)
def test_another_network_or_other_lines_need_another_file(pictures, tmp_path, other):
    run(tmp_path / "captions.jsonl", pictures)
    with pytest.raises(UserError, match="give another --out"):
        run(tmp_path / "captions.jsonl", pictures, job=other)


def test_two_runs_do_not_write_to_one_file(pictures, tmp_path):
    with (tmp_path / "captions.jsonl").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run writes to"):
            run(tmp_path / "captions.jsonl", pictures)


def test_a_name_that_is_not_utf8_comes_back(pictures, tmp_path):
    odd = Path(os.fsdecode(bytes(pictures) + b"/\xff.png"))
    (pictures / "3.png").unlink(missing_ok=True)
    Image.new("RGB", (2, 2)).save(pictures / "odd.png")
    (pictures / "odd.png").rename(odd)
    for _ in range(2):
        assert run(tmp_path / "captions.jsonl", pictures)
        assert [row["path"] for row in rows(tmp_path / "captions.jsonl")].count(str(odd)) == 1


def test_memory_does_not_grow_with_the_pictures(tmp_path):
    """Of 100 and of 400 links to a picture, nothing is held but the hashes of those that are done."""
    Image.new("RGB", (1, 1)).save(tmp_path / "one.png")
    peaks = []
    for count in (100, 400):
        folder = tmp_path / f"{count}"
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.png").symlink_to(tmp_path / "one.png")
        run(tmp_path / "warm.jsonl", tmp_path / "one.png")
        tracemalloc.start()
        run(tmp_path / f"{count}.jsonl", folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(rows(tmp_path / f"{count}.jsonl")) == count
    # A path alone takes more than 200 bytes.
    assert peaks[1] - peaks[0] < 300 * 60, peaks


def test_done_takes_8_bytes_per_path():
    done = Done(f"{number}.png" for number in range(1_000))
    assert len(done._keys) * done._keys.itemsize == 8_000
    assert all(Path(f"{number}.png") in done for number in range(1_000))
    assert not any(Path(f"{number}.jpg") in done for number in range(1_000))


KILLED = """
import sys
from functools import partial
from pathlib import Path
from fsgr_model.commands.bulk import caption_into
from fsgr_model.commands.bulk_workers import Job
from tests.worlds.free_network import Killer
if __name__ == "__main__":
    out, pictures, group = sys.argv[1:]
    caption_into(Path(out), [Path(pictures)], Job(partial(Killer, int(group))), processes=1, beside=True)
"""


@pytest.mark.slow
def test_runs_that_are_killed_lose_nothing_and_write_nothing_twice(pictures, tmp_path):
    script, out, whole = (tmp_path / name for name in ("killed.py", "captions.jsonl", "whole.jsonl"))
    script.write_text(KILLED)
    run(whole, pictures)
    for group in (0, 1, 1):
        command = [sys.executable, str(script), str(out), str(pictures), str(group)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, start_new_session=True, timeout=120)
        assert done.returncode == -signal.SIGKILL
    assert len(rows(out)) == 8
    assert run(out, pictures, beside=True)
    assert out.read_bytes() == whole.read_bytes()
    assert len(list(pictures.rglob("*.txt"))) == 11


@pytest.mark.slow
def test_three_processes_write_the_file_of_one(pictures, tmp_path):
    one, three = tmp_path / "one.jsonl", tmp_path / "three.jsonl"
    (pictures / "broken.png").write_text("no picture")
    assert not run(one, pictures)
    assert not run(three, pictures, processes=3)
    assert three.read_bytes() == one.read_bytes()


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_run_in_one_line_and_the_next_goes_on(pictures, tmp_path):
    out = tmp_path / "captions.jsonl"
    with pytest.raises(UserError, match=r"ended from outside.* captions are in .*--processes"):
        run(out, pictures, job=Job(partial(Killer, 1)), processes=2)
    assert run(out, pictures)
    assert len({row["path"] for row in rows(out)}) == len(rows(out)) == 11
