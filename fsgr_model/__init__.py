"""FSGR image captioning: `load` for Python, `fsgr` for a terminal, `dvc repro` for training."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsgr_model.api import Caption, Captioner, DescribedImage, Maps, UserError, load

__version__ = "0.1.0"
__all__ = ["Caption", "Captioner", "DescribedImage", "Maps", "UserError", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """The public interface (`fsgr_model/api.py`), imported at its first use since PyTorch takes seconds."""
    if name in __all__:
        from fsgr_model import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What is in the module, with the names that are not imported yet."""
    return sorted({*globals(), *__all__})
