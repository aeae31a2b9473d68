"""The registry of formats has all that params.yaml accepts."""

import typing

from fsgr_model.config.dataset_params import FILES_OF_FORMAT, DatasetParams
from fsgr_model.datasets.formats import FORMATS


def test_every_format_is_registered() -> None:
    accepted = typing.get_args(DatasetParams.model_fields["format"].annotation)
    assert list(FORMATS) == list(accepted) == list(FILES_OF_FORMAT)


def test_pictures_of_two_formats_are_made_by_the_stage() -> None:
    assert {name for name, form in FORMATS.items() if form.read is None} == {"demo", "webdataset"}
