"""open_clip without the libraries that nothing here uses, and those libraries unharmed."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fsgr_model.clip.open_clip_api import LATER, without_these

ROOT = Path(__file__).parents[2]
A_FRESH_PROCESS = """
import sys
from fsgr_model.clip.open_clip_api import open_clip
brought = [name for name in ("timm", "transformers") if name in sys.modules]
assert not brought, brought
import timm
assert timm.list_models()
"""


@pytest.mark.slow
def test_a_fresh_process_imports_open_clip_alone_and_can_import_the_rest_later() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", A_FRESH_PROCESS],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture
def none_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LATER:
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_what_was_imported_before_stays(monkeypatch: pytest.MonkeyPatch, none_imported: None) -> None:
    before = ModuleType(LATER[0])
    monkeypatch.setitem(sys.modules, LATER[0], before)
    with without_these():
        assert __import__(LATER[0]) is before
        with pytest.raises(ImportError, match=LATER[1]):
            __import__(LATER[1])
    assert sys.modules[LATER[0]] is before and LATER[1] not in sys.modules


def test_nothing_is_held_back_after_an_error(none_imported: None) -> None:
    finders = list(sys.meta_path)
    with pytest.raises(RuntimeError, match="broken library"), without_these():
        raise RuntimeError("broken library")
    assert sys.meta_path == finders


def test_no_module_of_the_project_puts_entries_into_sys_modules() -> None:
    """An entry that is no module of its own would be found by whoever imports that name later."""
    sources = [path for room in ("fsgr_model", "pipeline") for path in (ROOT / room).rglob("*.py")]
    assert not [path for path in sources if "sys.modules" in path.read_text(encoding="utf-8")]
