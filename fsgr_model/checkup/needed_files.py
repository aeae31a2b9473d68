"""The files that a parameter file names: which of them are needed, and whether they can be read."""

from pathlib import Path

from fsgr_model.checkup.findings import Findings
from fsgr_model.config.dataset_params import (
    CaptionFilesDataset,
    DatasetParams,
    DemoDataset,
    KarpathyDataset,
    M2Dataset,
    TableDataset,
)
from fsgr_model.datasets.caption_lists import is_pattern
from fsgr_model.datasets.normal_form import SPLITS
from fsgr_model.datasets.reading import image_folders
from fsgr_model.runtime.artifacts import load_json

M2_FILES = tuple(f"coco_{name}_ids.npy" for name in ("train", "restval", "dev", "test"))


def list_files(params: DatasetParams) -> dict[str, str]:
    """The files that list images and captions, below the root, with the parameter that names each."""
    if isinstance(params, DemoDataset):
        return {params.watch: "dataset.watch"}
    if isinstance(params, CaptionFilesDataset):
        named = {getattr(params.captions, split): f"dataset.captions.{split}" for split in SPLITS}
        # The reader looks up the files that a pattern matches.
        return {name: rule for name, rule in named.items() if not is_pattern(params.format, name)}
    if isinstance(params, KarpathyDataset):
        return {params.karpathy_file: "dataset.karpathy_file"}
    if isinstance(params, TableDataset):
        return params.table.files | params.table.lists
    if isinstance(params, M2Dataset):
        ids = {f"{params.m2.ids}/{name}": "dataset.m2.ids" for name in M2_FILES}
        return ids | {source.captions: "dataset.m2.sources" for source in params.m2.sources}
    return {}  # the shards of webdataset are patterns, which their reader looks up


def check_files(params: DatasetParams, findings: Findings) -> bool:
    """Whether every file and folder exists that the lists of images need; each missing one is a problem."""
    root = Path(params.root)
    if not root.is_dir():
        findings.problem(
            f"dataset.root: there is no folder {root}; put the dataset or a link to it there, or set "
            "dataset.root in the parameter file to its path"
        )
        return False
    lists = list_files(params)
    of_user = None if isinstance(params, DemoDataset) else params
    others = dict.fromkeys(of_user.instances if of_user else [], "dataset.instances")
    if not (root / params.watch).exists():
        others |= {} if params.watch in lists else {params.watch: "dataset.watch"}
    there = [_is_readable(root / name, rule, findings) for name, rule in (lists | others).items()]
    for name in dict.fromkeys(image_folders(of_user) if of_user else []):
        if not (root / name).is_dir():
            findings.problem(
                f"dataset.images: there is no folder {root / name}; unpack the images there, or name the "
                f"folder that they are in, below {root}"
            )
    if there:
        findings.fact("files", f"{sum(there)} of {len(there)} there, below {root}")
    return all(there[: len(lists)])


def _is_readable(path: Path, rule: str, findings: Findings) -> bool:
    if not path.exists():
        findings.problem(f"{rule}: {path} does not exist; put it there, or give its name below dataset.root")
        return False
    try:
        with path.open("rb") as opened:
            opened.read(1)
    except OSError as error:
        findings.problem(
            f"{rule}: {path} cannot be read ({error.strerror}); check its type and its permissions"
        )
        return False
    return True


def check_all_json(params: DatasetParams, findings: Findings) -> None:
    """Report every list that is not valid JSON; a reader would stop at the first of them."""
    for path in (Path(params.root) / name for name in list_files(params)):
        if path.suffix == ".json" and path.is_file():
            with findings.collected():
                load_json(path)
