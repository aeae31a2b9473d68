"""The registry of formats has all that params.yaml accepts."""

from fsgr_model.config.dataset_params import KIND_OF_FORMAT, files_of_format
from fsgr_model.datasets.formats import FORMATS


def test_every_format_is_registered() -> None:
    assert list(FORMATS) == list(KIND_OF_FORMAT)
    assert {files_of_format(name) for name in FORMATS} > {"demo", "captions", "shards"}


def test_pictures_of_two_formats_are_made_by_the_stage() -> None:
    assert {name for name, form in FORMATS.items() if form.read is None} == {"demo", "webdataset"}
