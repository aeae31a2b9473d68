import warnings

import pytest
import torch

from fsgr_model.clip import open_clip_api
from fsgr_model.clip.open_clip_api import import_torchvision

FAULT = RuntimeError("operator torchvision::nms does not exist")


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """What the next imports of torchvision raise; None succeeds."""
    outcomes: list[BaseException | None] = []

    def import_module(name: str) -> None:
        assert name == "torchvision"
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    monkeypatch.setattr(open_clip_api.importlib, "import_module", import_module)
    monkeypatch.setattr(open_clip_api, "_declared", [])
    return outcomes


def test_a_healthy_install_is_left_alone(imports):
    imports.append(None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        import_torchvision()
    assert open_clip_api._declared == []


def test_the_known_fault_is_repaired_with_one_warning(imports, monkeypatch):
    monkeypatch.setattr(open_clip_api, "SCHEMAS", ("made_up_by_a_test(Tensor x) -> Tensor",))
    imports.extend([FAULT, None])
    assert not hasattr(torch.ops.torchvision, "made_up_by_a_test")
    with pytest.warns(UserWarning, match="do not load") as caught:
        import_torchvision()
    assert len(caught) == 1
    assert imports == []
    assert torch.ops.torchvision.made_up_by_a_test is not None


@pytest.mark.parametrize("error", [ImportError("no module"), RuntimeError("CUDA driver"), ValueError("x")])
def test_other_errors_are_not_hidden(imports, error):
    imports.append(error)
    with pytest.raises(type(error)) as caught:
        import_torchvision()
    assert caught.value is error


def test_the_fault_is_raised_when_the_repair_did_not_help(imports, monkeypatch):
    monkeypatch.setattr(open_clip_api, "SCHEMAS", ())
    imports.extend([FAULT, FAULT])
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="nms"):
        import_torchvision()
