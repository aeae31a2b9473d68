"""A project that the check finds nothing to fix in, for tests to break."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fsgr_model.checkup.checkup import check_project
from fsgr_model.checkup.findings import Findings
from fsgr_model.config.dataset_params import KIND_OF_FORMAT
from tests.worlds.small_dataset import FILES, SmallDataset

ROOT = Path(__file__).parents[2]
TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "layers": 2, "width": 16, "head_width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


class Project:
    """Six pictures in COCO's form, a tiny CLIP to be trained here, concepts; `values` are its parameters."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.small = SmallDataset(root / "small").write()
        (root / "tiny_clip.json").write_text(json.dumps(TINY_CLIP))
        (root / "concepts.txt").write_text("dog\ncat\nsofa\n")
        self.values: dict[str, Any] = yaml.safe_load((ROOT / "presets" / "flickr8k.yaml").read_text())
        self.values["dataset"] |= {"root": str(root / "small"), "captions": FILES, "on_bad_image": "fail"}
        self.values["clip"] |= {"model": str(root / "tiny_clip.json"), "cut": 1}
        self.values["codebook"]["concepts"] = str(root / "concepts.txt")
        self.values["vocab"]["min_count"] = 1
        self.values["model"] |= {"d_model": 16, "num_heads": 2, "d_ff": 16}

    def of_format(self, form: str, **values: Any) -> None:
        """Another format with these parameters; those that it does not have are left out."""
        known = KIND_OF_FORMAT[form].model_fields
        shared = {name: value for name, value in self.values["dataset"].items() if name in known}
        self.values["dataset"] = shared | {"format": form} | values

    @property
    def params_file(self) -> Path:
        path = self.root / "params.yaml"
        path.write_text(yaml.safe_dump(self.values))
        return path

    def check(self, all_images: bool = False, timing: bool = False, processes: int | None = None) -> Findings:
        return check_project(
            self.params_file, all_images=all_images, timing=timing, data=self.root, processes=processes
        )

    def problems(self, **options: bool) -> list[str]:
        return self.check(**options).problems

    def problem(self, **options: bool) -> str:
        """The one problem that there must be."""
        (line,) = self.problems(**options)
        assert "\n" not in line
        return line

    def change_file(self, name: str, change: Callable[[Any], None]) -> None:
        path = self.small.root / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))


def fact(findings: Findings, subject: str) -> str:
    (line,) = [line for line in findings.facts if line.startswith(subject + " ")]
    return line


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)
