"""The only door to open_clip: `from fsgr_model.clip.open_clip_api import open_clip`.

- Some CPU builds of PyTorch come with a torchvision whose operator library does not load; importing it then
  stops at "operator torchvision::nms does not exist". The project uses torchvision's image transforms only,
  so declaring the operators that the import asks for is enough.
- timm and transformers are for towers of other kinds. open_clip does without them where they are not
  installed, and so it does here until such a tower is built: they take seconds to import.
"""

import importlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

from fsgr_model.runtime.errors import UserError

LATER = ("timm", "transformers")
# As in pyproject.toml.
TRANSFORMERS = '"transformers[sentencepiece]>=5,<6"'
SYMPTOM = "operator torchvision::"
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []


def import_torchvision() -> None:
    """Import torchvision; on the one known fault declare its operators, warn, and import it again.

    Any other error of the import is left as it is.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if SYMPTOM not in str(error) or _declared:
            raise
        _declare_operators()
        importlib.import_module("torchvision")


def _declare_operators() -> None:
    """Give torchvision's box operators their schemas, without an implementation."""
    # PyTorch forgets the schemas when the Library object is collected.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        library.define(schema)
    _declared.append(library)
    warnings.warn(
        "torchvision's compiled operators do not load with this PyTorch; their names are declared so that "
        "open_clip can be imported. Box operators (nms, roi_align) stay unavailable; nothing here uses them. "
        "A torchvision built for this PyTorch removes this message.",
        stacklevel=3,
    )


class _NotFound(MetaPathFinder):
    """Says of some packages that they are not installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None for what others find."""
        if fullname.partition(".")[0] in LATER:
            raise ModuleNotFoundError(f"{fullname} is not imported for open_clip", name=fullname)
        return None


@contextmanager
def without_these() -> Iterator[None]:
    """Within this block these packages cannot be imported; what was imported before stays as it is."""
    finder = _NotFound()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


with without_these():
    import_torchvision()
    open_clip: Any = importlib.import_module("open_clip")


def import_timm() -> Any:
    """timm, for open_clip's adapter too."""
    return _import_for("timm", "timm_model")


def import_transformers(what: str) -> Any:
    """transformers, for open_clip's adapter too.

    Raises:
        UserError: it is not installed.
    """
    try:
        return _import_for("transformers", "hf_model")
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise UserError(
            f"{what} is one of the library transformers, which is not installed; "
            f"run pip install {TRANSFORMERS}"
        ) from None


def _import_for(package: str, adapter: str) -> Any:
    """Import a package that open_clip was imported without, and let its adapter see it."""
    module = importlib.import_module(package)
    theirs = getattr(open_clip, adapter)
    if getattr(theirs, package) is None:
        # Classes that were made before look their globals up in the same module.
        importlib.reload(theirs)
    return module
