"""The files that a parameter file names: which of them are needed, and whether they can be read."""

from pathlib import Path

from fsgr_model.checkup.findings import Findings
from fsgr_model.config.dataset_params import DatasetParams, DemoDataset
from fsgr_model.datasets.formats import FORMATS
from fsgr_model.datasets.reading import image_folders
from fsgr_model.runtime.artifacts import load_json


def check_files(params: DatasetParams, findings: Findings) -> bool:
    """Whether every file and folder exists that the lists of images need; each missing one is a problem."""
    root = Path(params.root)
    if not root.is_dir():
        findings.problem(
            f"dataset.root: there is no folder {root}; put the dataset or a link to it there, or set "
            "dataset.root in the parameter file to its path"
        )
        return False
    lists = FORMATS[params.format].files(params)
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
    for path in (Path(params.root) / name for name in FORMATS[params.format].files(params)):
        if path.suffix == ".json" and path.is_file():
            with findings.collected():
                load_json(path)
