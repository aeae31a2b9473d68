"""A folder's pictures are found, and everything else is counted."""

import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from fsgr_model.commands.caption_files import pictures_at
from fsgr_model.datasets.picture_search import counted, find_pictures, looks_like_picture
from tests.datasets.test_hostile_images import somebody_else

RED = Image.new("RGB", (40, 24), "red")


def fill(folder: Path, **files: bytes) -> None:
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_pictures(folder).pictures]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
def test_a_picture_without_a_suffix_of_pictures_is_found(tmp_path: Path, kind: str) -> None:
    for name in ("000000391895", "a.jpg_large", "Oslo, 12.05.2023", "a.jpg?w=640"):
        RED.save(tmp_path / name, kind)
    assert len(names(tmp_path)) == 4
    assert not find_pictures(tmp_path).passed_over


def test_what_is_no_picture_is_counted_by_suffix(tmp_path: Path) -> None:
    fill(
        tmp_path, features__h5=b"\x89HDF\r\n\x1a\n", clip__mpg=b"\0\0\x01\xba", IMG_2__mov=b"", LICENCE=b"",
        IMG_1__MOV=b"\0\0\0\x14ftypqt  ", notes__txt=b"BMP is a format", Thumbs__db=b"\xd0\xcf\x11\xe0",
        README=b"BMW and P4ssword", points__pcd=b"# .PCD v0.7", board__gbr=b"G04*", page__pdf=b"%PDF-1.4",
        a__npy=b"\x93NUMPY", b__grib=b"GRIB", weather__bufr=b"BUFR", drawing__vst=b"\xd0\xcf\x11\xe0",
        track__fit=b"\x0e\x10.FIT", table__json=b"[]", IMG_3__AAE=b"<?xml?>", film=b"\0\0\0\x14ftypisom",
        __DS_Store=b"",
    )  # fmt: skip
    search = find_pictures(tmp_path)
    assert search.pictures == []
    assert search.passed_over.total() == 20
    assert search.passed_over[".mov"] == 2
    assert search.passed_over["without suffix"] == 3
    assert search.passed_over["hidden"] == 1


def test_what_looks_like_a_picture_is_tried(tmp_path: Path) -> None:
    """So that whoever opens it says what is wrong; nothing of that kind is only counted."""
    fill(
        tmp_path, zero__jpg=b"", page__png=b"<html>", a__HEIC=b"x", b__CR2=b"x", c__svg=b"<svg/>", h__jxl=b"",
        cut=b"\x89PNG\r\n\x1a\n", e=b"\0\0\0\x18ftypheic", f__part=b"\xff\xd8\xff\xe0", g__dng=b"x",
        d__avif=b"x",
    )  # fmt: skip
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "round.jpg").symlink_to("round.jpg")
    (tmp_path / "gone").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    search = find_pictures(tmp_path)
    assert (len(search.pictures), search.passed_over) == (15, Counter())


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not looks_like_picture(tmp_path / "pipe")
    assert find_pictures(tmp_path).passed_over == {"without suffix": 1}


def test_rare_formats_of_suffixes_with_other_meanings(tmp_path: Path) -> None:
    RED.save(tmp_path / "a.rgb", "SGI")
    RED.convert("1").save(tmp_path / "b.msp")
    fill(tmp_path, c__rgb=b"red green blue", d__msp=b"a patch of Windows")
    assert names(tmp_path) == ["a.rgb", "b.msp"]


def test_folders(tmp_path: Path) -> None:
    """Order is that of paths; a folder may be called as a picture; links to folders are not followed."""
    for name in ("b/2.png", "album.jpg/3.png", "1.png", ".hidden/4.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        RED.save(tmp_path / name)
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "link.png").symlink_to("1.png")
    search = find_pictures(tmp_path)
    assert names(tmp_path) == ["1.png", "album.jpg/3.png", "b/2.png", "link.png"]
    assert search.passed_over == {"hidden": 1, "links to folders": 1}


def test_a_closed_folder_and_a_closed_file(capsys: pytest.CaptureFixture[str]) -> None:
    with somebody_else() as folder:
        euid = os.geteuid()
        os.seteuid(os.getuid())
        (folder / "closed").mkdir(mode=0)
        RED.save(folder / "1.png")
        RED.save(folder / "no_suffix", "PNG")
        (folder / "no_suffix").chmod(0)
        os.seteuid(euid)
        assert pictures_at([folder, folder / "closed" / "2.png"]) == (
            [folder / "1.png", folder / "no_suffix", folder / "closed" / "2.png"],
            1,
        )
        said = capsys.readouterr().err
        os.seteuid(os.getuid())
    assert said == f"error: {folder / 'closed'}: cannot be searched (Permission denied)\n"


def test_a_name_cannot_break_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a\nerror: b"
    folder.mkdir()
    fill(folder, **{"x.new\nline": b""})
    assert pictures_at([folder]) == ([], 1)
    error, note = capsys.readouterr().err.splitlines()
    assert error.endswith("a folder without images") and note.endswith(r"passed over: 1 (.new\nline: 1)")


def test_many_suffixes_are_listed_in_part() -> None:
    counts = Counter({f".{number}": 1 for number in range(100, 130)} | {".txt": 5})
    assert counted(counts).startswith("35 (.txt: 5; .100: 1;")
    assert counted(counts).endswith("and 11 more)")
