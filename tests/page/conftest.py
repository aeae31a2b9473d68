"""A small project with scores, and the page over it, without a server."""

from pathlib import Path

import pytest

from fsgr_model.datasets.normal_form import read_captions, read_images, read_instances
from fsgr_model.runtime.artifacts import save_json, write_checksum
from fsgr_model.scoring.report import caption_report
from tests.worlds.project import write_pictures

pytest.importorskip("starlette", reason="fsgr page needs the extra `page`")


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with pictures and the scores of made-up captions, but without a network."""
    root = tmp_path_factory.mktemp("scored")
    dataset = root / "data" / "dataset"
    write_pictures(dataset)
    captions = read_captions(dataset)
    instances = read_instances(dataset)
    red = {"category_id": 1, "segmentation": {"size": [24, 40], "counts": ""}}
    tests = [record.image_id for record in read_images(dataset, "test")]
    instances["annotations"] = [{"id": number, "image_id": number, **red} for number in tests]
    save_json(dataset / "instances.json", instances)
    write_checksum(dataset / "instances.json")
    references = {number: [caption.text for caption in captions[number]] for number in tests}
    for phase, texts in (("xe", ["a red picture"]), ("scst", ["a blue picture", "a white wall"])):
        results = {number: texts[number % len(texts)] for number in references}
        scores = caption_report(references, results, instances, "off", tokenizer="python")[1]
        scores.save(root / "data" / "scores" / f"{phase}.json")
    return root
