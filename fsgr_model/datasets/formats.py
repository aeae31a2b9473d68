"""Every format of a dataset: its reader, the files that it needs, and what it is in one line.

To add one, write its reader in a module of its own (`karpathy.py` is a short one) and add it to `FORMATS`;
`fsgr_model/config/dataset_params.py` has its section of params.yaml. Nothing else
depends on the format: contract, image check and normal form are the same for all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsgr_model.config.dataset_params import (
    CaptionFilesDataset,
    KarpathyDataset,
    M2Dataset,
    PerSplit,
    TableDataset,
)
from fsgr_model.datasets.caption_lists import is_pattern, read_lists
from fsgr_model.datasets.coco import read_coco
from fsgr_model.datasets.karpathy import read_karpathy
from fsgr_model.datasets.m2 import ID_FILES, read_m2
from fsgr_model.datasets.nocaps import read_nocaps
from fsgr_model.datasets.normal_form import SPLITS
from fsgr_model.datasets.raw_form import RawDataset
from fsgr_model.datasets.table import read_table

# Each takes the section `dataset` of its own format.
Read = Callable[[Any, Path], RawDataset]
Files = Callable[[Any], dict[str, str]]


@dataclass(frozen=True)
class Format:
    """A format of `dataset.format`.

    Args:
        what: what these files are, for people.
        files: the files below the root that must exist, each with the parameter that names it.
        read: the reader: parameters and root to images and captions as the files list them; it opens no
            picture. None for the two formats whose pictures the stage makes: `demo` draws them
            (pipeline/dataset.py), `webdataset` unpacks them (shards.py).
        by_coco_name: whether the file names may be those of one COCO release and the pictures those of
            another; they are found by their number then.
    """

    what: str
    files: Files
    read: Read | None = None
    by_coco_name: bool = False


def _folders(params: CaptionFilesDataset) -> PerSplit | None:
    """The folder of each split, if each has one of its own."""
    return params.images if isinstance(params.images, PerSplit) else None


def _caption_files(params: CaptionFilesDataset) -> dict[str, str]:
    """Without patterns: the reader looks up the files that match one."""
    named = {getattr(params.captions, split): f"dataset.captions.{split}" for split in SPLITS}
    return {name: rule for name, rule in named.items() if not is_pattern(params.format, name)}


def _read_coco(params: CaptionFilesDataset, root: Path) -> RawDataset:
    return read_coco(root, params.captions, _folders(params))


def _read_nocaps(params: CaptionFilesDataset, root: Path) -> RawDataset:
    return read_nocaps(root, params.captions, _folders(params))


def _read_lists(params: CaptionFilesDataset, root: Path) -> RawDataset:
    return read_lists(params.format, root, params.captions, _folders(params))


def _read_karpathy(params: KarpathyDataset, root: Path) -> RawDataset:
    return read_karpathy(root, params.karpathy_file)


def _karpathy_file(params: KarpathyDataset) -> dict[str, str]:
    return {params.karpathy_file: "dataset.karpathy_file"}


def _read_m2(params: M2Dataset, root: Path) -> RawDataset:
    return read_m2(root, params.m2)


def _m2_files(params: M2Dataset) -> dict[str, str]:
    ids = {f"{params.m2.ids}/{name}": "dataset.m2.ids" for name in ID_FILES.values()}
    return ids | {source.captions: "dataset.m2.sources" for source in params.m2.sources}


def _read_table(params: TableDataset, root: Path) -> RawDataset:
    return read_table(root, params.table, params.seed, params.images)


def _table_files(params: TableDataset) -> dict[str, str]:
    return params.table.files | params.table.lists


FORMATS = {
    "demo": Format(
        "a world of simple scenes, which the project draws and captions itself",
        lambda params: {params.watch: "dataset.watch"},
    ),
    "coco": Format("COCO's caption files, or your own of that form", _caption_files, _read_coco),
    "nocaps": Format("nocaps, as downloaded", _caption_files, _read_nocaps),
    "blip": Format("caption lists of BLIP and LAVIS", _caption_files, _read_lists, by_coco_name=True),
    "textcaps": Format("TextCaps, as downloaded", _caption_files, _read_lists, by_coco_name=True),
    "narratives": Format(
        "Localized Narratives, as downloaded", _caption_files, _read_lists, by_coco_name=True
    ),
    "ai_challenger": Format("AI Challenger's Chinese captions, as downloaded", _caption_files, _read_lists),
    "karpathy": Format("Karpathy's dataset_*.json", _karpathy_file, _read_karpathy, by_coco_name=True),
    "m2": Format("the id files of the M2 Transformer", _m2_files, _read_m2),
    "folder": Format(
        "a folder of images and a table of captions", _table_files, _read_table, by_coco_name=True
    ),
    # Its files are patterns, which the reader looks up.
    "webdataset": Format("tar files, as img2dataset writes them", lambda params: {}),
}
