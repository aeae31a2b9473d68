"""Make `import torchvision` work where its compiled operators cannot be loaded.

Some CPU builds of PyTorch come with a torchvision whose operator library does not load; importing it then
stops at "operator torchvision::nms does not exist". The project uses torchvision's image transforms only, so
declaring the operators that the import asks for is enough.
"""

import importlib
import warnings

import torch

SYMPTOM = "operator torchvision::"
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []


def import_torchvision() -> None:
    """Import torchvision; if it fails in the known way, declare its operators, warn, and import it again.

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
