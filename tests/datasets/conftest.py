from pathlib import Path

import pytest

from tests.worlds.small_dataset import SmallDataset


@pytest.fixture
def small(tmp_path: Path) -> SmallDataset:
    return SmallDataset(tmp_path / "small")
