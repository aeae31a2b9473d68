"""FSGR image captioning: `load_captioner` for Python, `fsgr` for a terminal, `dvc repro` for training."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsgr_model.api import Captioner, load_captioner

__version__ = "0.1.0"
__all__ = ["Captioner", "__version__", "load_captioner"]


def __getattr__(name: str) -> Any:
    """The public interface, imported when it is first asked for: PyTorch takes seconds."""
    if name in ("Captioner", "load_captioner"):
        from fsgr_model import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
