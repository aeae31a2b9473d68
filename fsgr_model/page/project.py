"""What the page shows of a finished project: the test images, their captions and scores.

The files are read once, at their first use, and again when they have changed: a run may end while the page is
open.
"""

import io
import threading
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from fsgr_model.config.text_params import Segmenter
from fsgr_model.datasets.image_file import open_rgb
from fsgr_model.datasets.normal_form import ImageRecord, Lists, read_instances, read_lists
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.caption_tokens import tokenizer_of
from fsgr_model.scoring.chair import invented_objects
from fsgr_model.scoring.image_scores import BLEU_COLUMNS, ImageScores
from fsgr_model.text.vocabulary import Vocabulary

PHASES = ("scst", "xe")
# Thumbnails of some 10 kB.
KEPT_THUMBNAILS = 4000
QUALITY = 85
SIDES = (224, 1024)
T = TypeVar("T")


class Fresh(Generic[T]):
    """The content of files, read again when one of them has changed."""

    def __init__(self, files: list[Path], read: Callable[[], T]) -> None:
        self.files, self.read = files, read
        self.stamp: list[tuple[int, int]] | None = None
        self.lock = threading.Lock()

    def __call__(self) -> T:
        """What the files hold now.

        Raises:
            UserError: a file is missing or malformed.
        """
        with self.lock:
            stamp = [_stamp(file) for file in self.files]
            if stamp != self.stamp:
                self.value = self.read()
                self.stamp = stamp
            return self.value


def _stamp(file: Path) -> tuple[int, int]:
    try:
        facts = file.stat()
    except OSError:
        return (0, 0)
    return facts.st_mtime_ns, facts.st_size


class Project:
    """A project whose pipeline has run, or a part of it.

    Args:
        root: the folder with params.yaml.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, root / "data"
        dataset = self.data / "dataset"
        lists = [dataset / "images.json", dataset / "captions.json"]
        self.lists: Fresh[Lists] = Fresh(lists, lambda: read_lists(dataset))
        self.records: Fresh[dict[int, ImageRecord]] = Fresh(lists, self._records)
        self.scores = {phase: self._scores(phase) for phase in PHASES}
        self.columns = {
            phase: Fresh([*lists, self._file(phase)], partial(self._columns, phase)) for phase in PHASES
        }
        words = self.data / "vocab" / "words.json"
        # What divides captions into words; scores can be here without the word list.
        self.segmenter: Fresh[Segmenter] = Fresh(
            [words], lambda: Vocabulary.load(words).segmenter if words.exists() else "ptb"
        )
        # Two pictures of one id differ in their bytes, so the key has their hash.
        self._thumbnail = lru_cache(KEPT_THUMBNAILS)(draw_thumbnail)

    def _file(self, phase: str) -> Path:
        return self.data / "scores" / f"{phase}.json"

    def _scores(self, phase: str) -> Fresh[ImageScores]:
        file = self._file(phase)
        return Fresh([file], lambda: ImageScores.of_json(load_json(file), str(file)))

    def _records(self) -> dict[int, ImageRecord]:
        return {image.image_id: image for image in self.lists().images_of("test")}

    def scored_phases(self) -> list[str]:
        """The phases that have scores by image."""
        return [phase for phase in PHASES if self._file(phase).is_file()]

    def thumbnail(self, image_id: int, *, side: int) -> bytes:
        """A JPEG of a test image, within a square of `side` pixels.

        Raises:
            KeyError: no test image has this id.
            BadImage: it is missing or cannot be decoded.
        """
        record = self.records()[image_id]
        return self._thumbnail(record.path, record.sha256, side)

    def _columns(self, phase: str) -> dict[str, Any]:
        """The test split of a phase by columns, each in the order of `image_ids`."""
        scores, records = self.scores[phase](), self.records()
        if odd := set(scores.image_ids) - records.keys():
            raise UserError(f"the scores of {phase} are of other images ({len(odd)}); run dvc repro evaluate")
        shown = {name: column for name, column in scores.columns.items() if name not in BLEU_COLUMNS}
        return {
            "phase": phase,
            "image_ids": scores.image_ids,
            "captions": scores.captions,
            "domains": [records[image_id].domain for image_id in scores.image_ids],
            "versions": [records[image_id].sha256[:8] for image_id in scores.image_ids],
            "scores": {name: np.round(column, 4).tolist() for name, column in shown.items()},
            "invented": self._invented(scores),
        }

    def _invented(self, scores: ImageScores) -> list[list[str]]:
        """The objects that each caption names although the image has none."""
        wrong = scores.columns.get("wrong_objects")
        if wrong is None or not wrong.any():
            return [[] for _ in scores.image_ids]
        marked = {scores.image_ids[row]: scores.captions[row] for row in np.flatnonzero(wrong)}
        references = {image_id: self.references(image_id) for image_id in marked}
        instances = read_instances(self.data / "dataset")
        found = invented_objects(references, marked, instances, tokenizer_of(self.segmenter()))
        return [found.get(image_id, []) for image_id in scores.image_ids]

    def references(self, image_id: int) -> list[str]:
        """The captions that people wrote."""
        return [caption.text for caption in self.lists().captions.get(image_id, [])]

    def image(self, image_id: int) -> dict[str, Any]:
        """All that is known of a test image.

        Raises:
            KeyError: no test image has this id.
        """
        record = self.records()[image_id]
        return {
            "image_id": image_id,
            "version": record.sha256[:8],
            "width": record.width,
            "height": record.height,
            "domain": record.domain,
            "references": self.references(image_id),
            "phases": {phase: self._of_phase(phase, image_id) for phase in self.scored_phases()},
        }

    def _of_phase(self, phase: str, image_id: int) -> dict[str, Any]:
        columns = self.columns[phase]()
        row = columns["image_ids"].index(image_id)
        return {
            "caption": columns["captions"][row],
            "invented": columns["invented"][row],
            "scores": {name: column[row] for name, column in columns["scores"].items()},
        }


def draw_thumbnail(path: str, _: str, side: int) -> bytes:
    """A JPEG within a square of `side` pixels."""
    picture = open_rgb(Path(path))
    picture.thumbnail((side, side))
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=QUALITY)
    return written.getvalue()
