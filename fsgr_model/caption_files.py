"""Captions of the user's own image files: lines on stdout, problems on stderr, sheets in a folder."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from torch import Tensor

from fsgr_model.datasets.image_file import BadImage, open_rgb, picture_formats
from fsgr_model.inference import DescribedImage, ImageCaptioner
from fsgr_model.reporting.caption_sheet import CaptionSheet, draw_caption_sheet

Show = Callable[[Path, Tensor, DescribedImage], None]


def caption_files(
    captioner: ImageCaptioner, paths: Sequence[Path], as_json: bool, overlay: Path | None
) -> bool:
    """Print a line a caption, and draw a sheet an image below `overlay`; what fails is told on stderr.

    Returns:
        whether everything that was asked for was captioned.
    """
    found = {path: images_at(path) for path in paths}
    empty = [path for path, files in found.items() if not files]
    for path in empty:
        complain(f"{path}: a folder without images")
    files = [file for below in found.values() for file in below]
    shows: list[Show] = [JsonLines(captioner.codebook.names) if as_json else print_text]
    if overlay is not None:
        shows.append(Sheets(captioner, overlay, files))
    failed = len(empty)
    size = captioner.decode.batch_size
    with ThreadPoolExecutor() as readers:
        for start in range(0, len(files), size):
            failed += _caption_group(captioner, files[start : start + size], readers, shows)
    return failed == 0


def _caption_group(
    captioner: ImageCaptioner, files: Sequence[Path], readers: ThreadPoolExecutor, shows: Sequence[Show]
) -> int:
    """Caption and show a few files; how many of them could not be read."""

    def read(path: Path) -> Tensor | BadImage:
        try:
            return captioner.prepare(open_rgb(path))
        except BadImage as error:
            return error

    images, bad = [], 0
    for path, image in zip(files, readers.map(read, files), strict=True):
        if isinstance(image, BadImage):
            complain(str(image))
            bad += 1
        else:
            images.append((path, image))
    if images:
        described = captioner.describe([image for _, image in images])
        for (path, image), description in zip(images, described, strict=True):
            for show in shows:
                show(path, image, description)
    return bad


def images_at(path: Path) -> list[Path]:
    """The path itself, or all files below a folder whose suffix is that of a format that Pillow reads.

    Sorted by path; files and folders whose name begins with a dot are left out.
    """
    if not path.is_dir():
        return [path]
    # Pillow reads MPO, the photographs of stereo cameras and some phones, as JPEG.
    readable = {*picture_formats(), "MPO"}
    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in readable}
    return sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in suffixes
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )


def complain(text: str) -> None:
    """A problem that does not stop the rest."""
    print(f"error: {text}", file=sys.stderr, flush=True)


def print_text(path: Path, image: Tensor, described: DescribedImage) -> None:
    """`path<TAB>caption`, a line a caption."""
    for caption in described.captions:
        print(f"{path}\t{caption.text}", flush=True)


class JsonLines:
    """A JSON object a caption; `concepts` are the names of the codebook.

    The concepts of the patches are null for a network that has none (`model.semantics` off).
    """

    def __init__(self, concepts: Sequence[str]) -> None:
        self.concepts = concepts

    def __call__(self, path: Path, image: Tensor, described: DescribedImage) -> None:
        names = None
        if described.concept_SS is not None:
            names = [[self.concepts[concept] for concept in row] for row in described.concept_SS.tolist()]
        for caption in described.captions:
            row = {
                "path": str(path),
                "caption": caption.text,
                "log_probability": caption.log_probability,
                "concepts": names,
            }
            print(json.dumps(row, ensure_ascii=False), flush=True)


class Sheets:
    """A PNG an image below `folder`: `<image>.png`, in subfolders where the images lie in several."""

    def __init__(self, captioner: ImageCaptioner, folder: Path, files: Sequence[Path]) -> None:
        self.captioner = captioner
        self.folder = folder
        self.common = os.path.commonpath([file.absolute().parent for file in files]) if files else ""

    def __call__(self, path: Path, image: Tensor, described: DescribedImage) -> None:
        """Draw where the words of the first caption look."""
        caption = described.captions[0]
        vocabulary = self.captioner.assembly.vocabulary
        sheet = CaptionSheet(
            image_path=path,
            caption=caption.text,
            words=[vocabulary.words[number] for number in caption.word_ids],
            attention_LSS=self.captioner.attention(image, caption),
            label_SS=self.captioner.label_map(image),
            concept_SS=described.concept_SS,
        )
        name = path.absolute().relative_to(self.common)
        draw_caption_sheet(
            self.folder / name.with_name(name.name + ".png"),
            sheet,
            self.captioner.codebook.names,
            centre_only=self.captioner.crops_centre,
        )
