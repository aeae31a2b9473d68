"""`python -m fsgr_model caption` as a user runs it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fsgr_model.commands import caption
from fsgr_model.commands.caption_files import JsonLines
from fsgr_model.inference import describing
from fsgr_model.inference.captioning import speak
from fsgr_model.inference.decoding import State, Step
from fsgr_model.inference.describing import Caption, DescribedImage
from fsgr_model.inference.wishes import Unfulfilled
from fsgr_model.reporting.caption_sheet import CaptionSheet, draw_caption_sheet
from fsgr_model.runtime.errors import run_command

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command in the project; its exit code and what it said on stdout and stderr."""
    monkeypatch.chdir(project)

    def main(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["caption", *map(str, arguments), "--phase", "xe"])
        code, refusal = 0, ""
        try:
            run_command(caption.main)
        except SystemExit as end:
            # Python prints a text, and ends with 1.
            code, refusal = (end.code, "") if isinstance(end.code, int) else (1, f"{end.code}\n")
        said = capsys.readouterr()
        return code, said.out, said.err + refusal

    return main


def save(folder: Path, name: str, picture: Image.Image, **options: object) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return path


RED = Image.new("RGB", (40, 24), (220, 30, 30))
HEAD_LEFT = 128 + signal.SIGPIPE
THIN = ((3000, 1), (1, 3000), (1, 1))


def test_every_kind_of_image_is_captioned(run, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.full((20, 30), 60_000, dtype=np.uint16))
    paths = [
        save(tmp_path, "turned.jpg", RED, exif=exif),
        save(tmp_path, "alpha.png", RED.convert("RGBA")),
        save(tmp_path, "grey.png", RED.convert("L")),
        save(tmp_path, "cmyk.jpg", RED.convert("CMYK")),
        save(tmp_path, "deep.png", deep),
        save(tmp_path, "moving.gif", RED, save_all=True, append_images=[RED.rotate(90)]),
        save(tmp_path, "palette.gif", RED.convert("P")),
        save(tmp_path, "dot.png", RED.resize((1, 1))),
        save(tmp_path, "long.webp", RED.resize((900, 2))),
    ]
    code, out, err = run(*paths)
    assert (code, err) == (0, "")
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[0] for row in rows] == [str(path) for path in paths]
    assert all(row[1] for row in rows)
    assert "red" in rows[0][1]


def test_bad_files_are_reported_and_the_rest_goes_on(run, tmp_path: Path) -> None:
    good = [save(tmp_path, f"{number}.png", RED) for number in range(7)]
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty").mkdir()
    cut = tmp_path / "cut.png"
    cut.write_bytes(good[0].read_bytes()[:60])
    bad = [tmp_path / "text.jpg", tmp_path / "none.png", cut, tmp_path / "empty"]
    code, out, err = run(*good[:3], *bad, *good[3:])
    assert code == 1
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(path) for path in good]
    assert len(err.splitlines()) == 4
    for path, reason in zip(bad, ("not an image", "missing", "decoded", "without images"), strict=True):
        assert any(str(path) in line and reason in line for line in err.splitlines()), err


def test_a_reader_may_leave_early(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no signal is left set for what this process does later: SIGPIPE would end it without a word."""
    path, before = save(tmp_path, "1.png", RED), signal.getsignal(signal.SIGPIPE)
    reading, writing = os.pipe()
    os.close(reading)
    with monkeypatch.context() as patch, os.fdopen(writing, "w") as left:
        patch.setattr(sys, "stdout", left)
        code, _, err = run(path)
    assert (code, err) == (HEAD_LEFT, "")
    assert signal.getsignal(signal.SIGPIPE) == before == signal.SIG_IGN


def test_only_bad_files(run, tmp_path: Path) -> None:
    code, out, _ = run(tmp_path / "none.png")
    assert (code, out) == (1, "")


def test_a_folder_is_searched_to_its_bottom(run, tmp_path: Path) -> None:
    deep = save(tmp_path, "a/b/1.JPG", RED)
    top = save(tmp_path, "2.png", RED)
    stereo = save(tmp_path, "c.mpo", RED, save_all=True, append_images=[RED])
    save(tmp_path, ".hidden/3.png", RED)
    (tmp_path / "notes.txt").write_text("not looked at")
    code, out, err = run(tmp_path)
    assert (code, err) == (0, f"note: {tmp_path}: passed over: 2 (.txt: 1; hidden: 1)\n")
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(top), str(deep), str(stereo)]


def test_what_a_phone_leaves_in_a_folder(run, tmp_path: Path) -> None:
    """What is no picture is counted; a picture that is not decoded is named, and the exit code is 1."""
    taken = [save(tmp_path, "000000391895", RED, format="PNG"), save(tmp_path, "IMG_1.JPG", RED)]
    for name in ("IMG_1.MOV", "IMG_2.mov", "features.h5", "Thumbs.db", ".DS_Store"):
        (tmp_path / name).write_bytes(bytes(40))
    code, out, err = run(tmp_path)
    assert (code, [line.split("\t")[0] for line in out.splitlines()]) == (0, list(map(str, taken)))
    assert err == f"note: {tmp_path}: passed over: 5 (.mov: 2; .db: 1; .h5: 1; hidden: 1)\n"
    (tmp_path / "IMG_3.CR2").write_bytes(b"II*\0\x10\0\0\0CR\x02\0" + bytes(40))
    code, again, err = run(tmp_path)
    assert (code, again) == (1, out)
    assert "IMG_3.CR2: a camera's raw file (CR2), which is not decoded; export it" in err.splitlines()[-1]


def test_a_folder_of_anything_but_pictures(run, tmp_path: Path) -> None:
    (tmp_path / "features.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    code, out, err = run(tmp_path)
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        f"error: {tmp_path}: a folder without images",
        f"note: {tmp_path}: passed over: 1 (.h5: 1)",
    ]


def test_many_pictures_that_fail_are_counted_at_the_end(run, tmp_path: Path) -> None:
    for number in range(22):
        (tmp_path / f"{number:02}.{'CR2' if number else 'jpg'}").write_bytes(b"no picture")
    code, out, err = run(tmp_path, save(tmp_path, "red.png", RED))
    assert code == 1 and len(out.splitlines()) == 2, "a file that is asked for twice is captioned twice"
    assert err.splitlines()[-1] == "error: of 24 pictures these were not captioned: 22 (.cr2: 21; .jpg: 1)"


def test_json_lines(run, project: Path, tmp_path: Path) -> None:
    path = save(tmp_path, "1.png", RED)
    code, out, _ = run("--json", path)
    row = json.loads(out)
    assert code == 0
    assert row.keys() == {
        "path",
        "caption",
        "log_probability",
        "word_log_probabilities",
        "concepts",
    }
    assert row["path"] == str(path)
    assert row["log_probability"] < 0
    names = json.loads((project / "data" / "codebook" / "codebook.json").read_text())["names"]
    assert np.shape(row["concepts"]) == (4, 4)
    assert set(np.ravel(row["concepts"])) <= set(names)


def test_captions_go_to_a_file(run, tmp_path: Path) -> None:
    """The captions are those that are printed; with --json and --n-best, all that is printed."""
    folder, out = tmp_path / "in", tmp_path / "out.jsonl"
    paths = [save(folder, f"{number}.png", RED.rotate(90 * number, expand=True)) for number in range(3)]
    printed = dict(line.split("\t") for line in run(*paths)[1].splitlines())
    code, _, err = run("--out", out, "--txt", folder)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert (code, err) == (0, "") and {row["path"]: row["caption"] for row in rows} == printed
    assert {str(path): path.with_suffix(".txt").read_text().strip() for path in paths} == printed
    out.unlink()
    run("--out", out, "--json", "--n-best", 2, paths[0])
    (row,) = map(json.loads, out.read_text().splitlines())
    shown = [json.loads(line) for line in run("--json", "--n-best", 2, paths[0])[1].splitlines()]
    assert [{"path": str(paths[0]), **each, "concepts": row["concepts"]} for each in row["captions"]] == shown


def test_a_network_without_concepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`model.semantics: false`: JSON says null, and the sheet has no map of them."""
    caption = Caption(
        "a red wall", [4, 5, 6], -0.5, words=["a", "red", "wall"], word_probabilities=[0.9, 0.8, 1.0]
    )
    JsonLines([])(Path("1.png"), torch.empty(0), DescribedImage([caption], None))
    assert json.loads(capsys.readouterr().out)["concepts"] is None
    path = save(tmp_path, "1.png", RED)
    maps = np.full((3, 2, 2), 0.25), np.zeros((2, 2), dtype=np.int64)
    pages = []
    for concepts in (maps[1], None):
        sheet = CaptionSheet(path, "a red wall", ["a", "red", "wall"], *maps, concepts)
        draw_caption_sheet(tmp_path / "sheet.png", sheet, ["wall"], centre_only=False)
        with Image.open(tmp_path / "sheet.png") as page:
            pages.append(np.asarray(page.convert("RGB"))[:300, 820:])
    assert pages[0].min() < 255 and pages[1].min() == 255


def test_samples_have_a_line_each(run, tmp_path: Path) -> None:
    paths = [save(tmp_path, f"{number}.png", RED) for number in range(2)]
    _, out, _ = run("--sample", 3, *paths)
    assert [line.split("\t")[0] for line in out.splitlines()] == [
        str(path) for path in paths for _ in range(3)
    ]


def test_overlay_draws_a_sheet_per_image(run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder, "1.png", RED)
    save(folder, "sub/1.png", RED.resize((30, 90)))
    out = tmp_path / "sheets"
    assert run("--overlay", out, folder)[0] == 0
    drawn = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert drawn == ["1.png.png", "sub/1.png.png"]
    with Image.open(out / "1.png.png") as sheet:
        assert sheet.width == 1200
        assert len(sheet.convert("RGB").getcolors(1 << 20)) > 20


def test_a_sheet_of_a_thread_and_of_a_dot(run, tmp_path: Path) -> None:
    paths = [save(tmp_path, f"{number}.png", RED.resize(size)) for number, size in enumerate(THIN)]
    code, out, err = run("--overlay", tmp_path / "sheets", *paths)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == len(list((tmp_path / "sheets").iterdir())) == len(THIN)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--beam-size", "0"],
        ["--sample", "2", "--beam-size", "3"],
        ["--top-k", "2", "x"],
        [],
        ["--txt", "x"],
        ["--out", "a", "--overlay", "b", "x"],
    ],
)
def test_a_wrong_command_line_says_so_before_anything_is_loaded(wrong: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "fsgr_model", "caption", *wrong]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "usage: fsgr caption" in done.stderr
    assert "torch" not in done.stderr and "PIL" not in done.stderr


def test_a_folder_is_read_by_a_program_that_has_opened_no_picture_yet(tmp_path):
    """Pillow learns of most formats when it first needs them; the tests around this one have taught it."""
    (tmp_path / "a.jpg").touch()
    code = (
        "import sys; from pathlib import Path; from fsgr_model.datasets.picture_search import find_pictures; "
        "print([file.name for file in find_pictures(Path(sys.argv[1])).pictures])"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "['a.jpg']\n"


def captions_in(out: str) -> list[str]:
    return [line.split("\t")[1] for line in out.splitlines()]


def test_the_n_best_come_with_a_probability_for_each_word(run, tmp_path: Path) -> None:
    path = save(tmp_path, "1.png", RED)
    rows = [json.loads(line) for line in run("--json", "--n-best", 3, path)[1].splitlines()]
    assert len({row["caption"] for row in rows}) == 3
    whole = [row["log_probability"] for row in rows]
    assert whole == sorted(whole, reverse=True)
    for row in rows:
        words = row["word_log_probabilities"]
        assert max(words) < 0 and sum(words) == pytest.approx(row["log_probability"])
        assert len(words) == len(row["caption"].split()) + 1
    assert json.loads(run("--json", path)[1]) == rows[0], "the default is the best of them"


@pytest.mark.parametrize(
    ("options", "holds"),
    [
        (["--min-words", 6], lambda words: len(words) >= 6),
        (["--max-words", 2], lambda words: len(words) <= 2),
        (["--target-words", 6, "--length-penalty", -2], lambda words: len(words) >= 5),
        (["--begin", "A  Blue"], lambda words: words[:2] == ["a", "blue"]),
        (["--must", "blue", "--must", "a wall"], lambda words: {"blue", "a", "wall"} <= set(words)),
        (["--must-not", "red", "--must-not", "a"], lambda words: not {"red", "a"} & set(words)),
        (["--no-repeat", 1, "--min-words", 6], lambda words: len(set(words)) == len(words) >= 6),
        (["--sample", 9, "--consensus", "--begin", "a"], lambda words: words[0] == "a"),
    ],
)
def test_a_wish_is_fulfilled(run, tmp_path: Path, options: list, holds) -> None:
    path = save(tmp_path, "1.png", RED)
    plain, wished = captions_in(run(path)[1]), captions_in(run(*options, path)[1])
    assert len(wished) == 1 and holds(wished[0].split())
    assert not holds(plain[0].split()) or "--sample" in options, plain


def test_groups_give_a_caption_each(run, tmp_path: Path) -> None:
    path = save(tmp_path, "1.png", RED)
    _, out, _ = run("--groups", 3, "--group-strength", 30, path)
    assert len({caption.split()[0] for caption in captions_in(out)}) == 3


def test_cold_draws_are_all_alike(run, tmp_path: Path) -> None:
    path = save(tmp_path, "1.png", RED)
    hot = captions_in(run("--sample", 8, path)[1])
    for option in (["--temperature", "0.01"], ["--top-k", 1], ["--top-p", "0.001"]):
        assert len(set(captions_in(run("--sample", 8, *option, path)[1]))) == 1 < len(set(hot))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--must", "zebra"], "'zebra' is not among the model's"),
        (["--n-best", 9], "3 hypotheses are kept (--beam-size)"),
        (["--min-words", 40], "need more than max_length 10"),
        (["--must-not", "a", "--begin", "a red"], "'a red' contains 'a', which is in must_not"),
        (["--groups", 2, "--sample", 2], "groups and sampling exclude each other"),
        (["--group-strength", 2], "decode.groups.count: missing; give it as well"),
        (["--sample", 2, "--temperature", 0], "greater than or equal to 0.01 (found 0.0)"),
        (["--no-repeat", 1, "--min-words", 9, "--must-not", "this"], "1.png fulfils all wishes"),
    ],
)
def test_an_impossible_wish_is_one_line(run, tmp_path: Path, options: list, reason: str) -> None:
    code, out, err = run(*options, save(tmp_path, "1.png", RED))
    assert (code, out) == (1, "")
    assert reason in err and len(err.splitlines()) == 1


def test_a_picture_without_a_caption_is_named_and_the_rest_goes_on(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wishes can be met for the others, whose captions are those of a run without it."""
    names = ["1.png", "2.png", "3.png"]
    paths = [save(tmp_path, name, RED.rotate(90 * number)) for number, name in enumerate(names)]
    alone = run(paths[0], paths[2])[1]

    def speak_but_one(step: Step, start: State, num_images: int, **options: Any) -> Tensor:
        if num_images == 3:
            raise Unfulfilled("1 of 3 images", [1])
        return speak(step, start, num_images, **options)

    monkeypatch.setattr(describing, "speak", speak_but_one)
    code, out, err = run(*paths)
    assert (code, out) == (1, alone)
    assert f"no caption of {paths[1]} fulfils" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("option", ["--temperature", "--top-p"])
def test_a_zero_for_draws_is_an_option_for_draws(run, option: str) -> None:
    code, _, err = run(option, 0, "1.png")
    assert code == 2 and f"{option} is for draws; give --sample N as well" in err
