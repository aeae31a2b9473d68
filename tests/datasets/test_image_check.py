"""Pictures are opened by worker processes while other work goes on; links are told wherever they lie."""

import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from fsgr_model.datasets import image_check
from fsgr_model.datasets.image_check import check_images, gather, inspection, links_out
from fsgr_model.datasets.raw_form import RawImage

MANY = 300


def images(folder: Path, names: list[str]) -> list[RawImage]:
    """A picture for each name, of another width each."""
    for number, name in enumerate(names, 1):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (number, 2)).save(folder / name)
    return listed(names)


def listed(names: list[str]) -> list[RawImage]:
    return [RawImage(number, "train", name, "list.json") for number, name in enumerate(names, 1)]


def test_workers_find_what_one_process_finds_in_the_order_of_the_list(tmp_path: Path) -> None:
    all_images = images(tmp_path, [f"{number}.png" for number in range(MANY)])
    (tmp_path / "7.png").write_bytes(b"")
    (tmp_path / "200.png").unlink()
    alone = check_images(all_images, tmp_path, 0, Path("data"))
    assert [image.width for image in alone.good[:8]] == [1, 2, 3, 4, 5, 6, 7, 9]
    assert [image.file_name for image, _ in alone.bad] == ["7.png", "200.png"]
    with inspection(all_images, tmp_path, 2) as facts:
        assert gather(all_images, facts, Path("data")) == alone


def open_slowly(path: Path) -> str:
    time.sleep(0.02)
    with path.with_name("opened").open("a") as file:
        file.write("x")
    return "bad"


def test_an_error_in_the_block_ends_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_check, "inspect_image", open_slowly)
    monkeypatch.setattr(image_check, "IMAGES_A_TASK", 1)
    others = set(psutil.Process().children())
    with pytest.raises(ValueError, match="other work"), inspection(listed(["a.png"]) * MANY, tmp_path, 2):
        workers = set(psutil.Process().children()) - others
        raise ValueError("other work")
    assert workers and not psutil.wait_procs(workers, timeout=20)[1]
    assert len((tmp_path / "opened").read_text()) < MANY / 2


def test_links_out_of_the_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    images(inside, ["a.png", "sub/b.png"])
    images(outside, ["c.png"])
    (inside / "away").symlink_to(outside)
    (inside / "near").symlink_to(inside / "sub")
    (inside / "d.png").symlink_to(outside / "c.png")
    (inside / "e.png").symlink_to("a.png")
    (outside / "back.png").symlink_to(inside / "a.png")
    inner = listed(["a.png", "sub/b.png", "near/b.png", "e.png", "away/back.png", "./sub/../a.png"])
    assert links_out(inner, inside) == []
    place = outside / "c.png"
    assert links_out([*inner, *listed(["d.png", "away/c.png"])], inside) == [
        f"2 images are links that lead out of {inside}: d.png -> {place}; away/c.png -> {place}"
    ]
