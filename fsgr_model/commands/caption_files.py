"""Captions the user's own image files: lines go to stdout, problems to stderr, sheets to a folder."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fsgr_model.datasets.image_file import BadImage, open_rgb
from fsgr_model.datasets.picture_search import Search, counted, find_pictures, is_folder, suffix_of
from fsgr_model.inference.describing import Caption, DescribedImage, Describer
from fsgr_model.inference.ensemble import EnsembleCaptioner
from fsgr_model.inference.wishes import Unfulfilled, for_each
from fsgr_model.reporting.caption_sheet import CaptionSheet, draw_caption_sheet
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import SHOWN

AnyCaptioner = Describer | EnsembleCaptioner
# The second is a picture as the captioner has prepared it.
Show = Callable[[Path, Any, DescribedImage], None]


def caption_files(
    captioner: AnyCaptioner, paths: Sequence[Path], as_json: bool, overlay: Path | None
) -> bool:
    """Print one line per caption, and draw one sheet per image below `overlay`; failures go to stderr.

    Returns:
        whether all images were captioned.
    """
    files, without = pictures_at(paths)
    shows: list[Show] = [JsonLines(captioner.concepts) if as_json else print_text]
    if overlay is not None:
        shows.append(Sheets(captioner, overlay, files))
    failed: Counter[str] = Counter()
    size = captioner.batch_size
    with ThreadPoolExecutor() as readers:
        for start in range(0, len(files), size):
            failed += caption_group(captioner, files[start : start + size], readers, shows)
    if failed.total() > SHOWN:
        tell("error", f"of {len(files)} pictures these were not captioned: {counted(failed)}")
    return not failed and not without


def caption_group(
    captioner: AnyCaptioner, files: Sequence[Path], readers: ThreadPoolExecutor, shows: Sequence[Show]
) -> Counter[str]:
    """Caption a group of files and show the results; return how many of each suffix have none."""

    def read(path: Path) -> Any:
        try:
            return captioner.prepare(open_rgb(path))
        except BadImage as error:
            return error

    images: list[tuple[Path, Any]] = []
    bad: Counter[str] = Counter()
    for path, image in zip(files, readers.map(read, files), strict=True):
        if isinstance(image, BadImage):
            tell("error", str(image))
            bad[suffix_of(path)] += 1
        else:
            images.append((path, image))
    described = for_each(captioner.describe, [image for _, image in images])
    for (path, image), description in zip(images, described, strict=True):
        if description is None:
            tell("error", str(Unfulfilled(str(path))))
            bad[suffix_of(path)] += 1
            continue
        for show in shows:
            show(path, image, description)
    return bad


def pictures_at(paths: Sequence[Path]) -> tuple[list[Path], int]:
    """The paths themselves, and for a folder all pictures below it; other files are counted on stderr.

    Returns:
        the pictures in the order of `paths`, sorted within a folder; how many folders have none or
        cannot be read.
    """
    files: list[Path] = []
    failed = 0
    for path in paths:
        if not is_folder(path):
            files.append(path)
            continue
        search = find_pictures(path)
        failed += tell_search(path, search, len(search.pictures))
        files += search.pictures
    return files, failed


def tell_search(folder: Path, search: Search, pictures: int) -> int:
    """Tell what a search of a folder did not take; how many folders have no picture or cannot be read."""
    for error in search.closed:
        tell("error", f"{error.filename}: cannot be searched ({error.strerror})")
    if not pictures and not search.closed:
        tell("error", f"{folder}: a folder without images")
    if search.passed_over:
        tell("note", f"{folder}: passed over: {counted(search.passed_over)}")
    return len(search.closed) or not pictures


def tell(kind: str, text: str) -> None:
    """Print one line on stderr, with special characters of names escaped."""
    print(f"{kind}: {UserError(text)}", file=sys.stderr, flush=True)


def print_text(path: Path, image: Any, described: DescribedImage) -> None:
    """Print `path<TAB>caption`, one line per caption."""
    for caption in described.captions:
        print(f"{path}\t{caption.text}", flush=True)


class JsonLines:
    """Prints one JSON object per caption; `concepts` are the names of the codebook.

    The concepts of the patches are null for a network that has none (`model.semantics` off).
    """

    def __init__(self, concepts: Sequence[str]) -> None:
        self.concepts = concepts

    def __call__(self, path: Path, image: Any, described: DescribedImage) -> None:
        names = concept_names(self.concepts, described)
        for caption in described.captions:
            row = {"path": str(path), **scored(caption), "concepts": names}
            print(json.dumps(row, ensure_ascii=False), flush=True)


def concept_names(concepts: Sequence[str], described: DescribedImage) -> list[list[str]] | None:
    """The name of each patch's concept, a list per row of patches; None for a network without concepts."""
    if described.concept_SS is None:
        return None
    return [[concepts[concept] for concept in row] for row in described.concept_SS.tolist()]


def scored(caption: Caption) -> dict[str, Any]:
    """A caption with its probabilities, as JSON has them."""
    return {
        "caption": caption.text,
        "log_probability": caption.log_probability,
        "word_log_probabilities": caption.word_log_probabilities,
    }


class Sheets:
    """Draws one PNG per image below `folder`: `<image>.png`, in subfolders if the images are in several."""

    def __init__(self, captioner: AnyCaptioner, folder: Path, files: Sequence[Path]) -> None:
        captioner.check_maps()
        self.captioner = captioner
        self.folder = folder
        self.common = os.path.commonpath([file.absolute().parent for file in files]) if files else ""

    def __call__(self, path: Path, image: Any, described: DescribedImage) -> None:
        """Draw the label map and the attention of the words of the first caption."""
        caption = described.captions[0]
        vocabulary = self.captioner.vocabulary
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
            self.captioner.concepts,
            centre_only=self.captioner.crops_centre,
        )
