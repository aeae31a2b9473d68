"""What a reader takes from the user's files, before any picture is opened."""

from dataclasses import dataclass, field

from fsgr_model.datasets.normal_form import Split


@dataclass(frozen=True, slots=True)
class RawImage:
    """An image as listed in the file `source`, to which its id belongs.

    `file_name` is relative to the folder of the images. `domain` names the part of a split that is also
    scored separately.
    """

    image_id: int
    split: Split
    file_name: str
    source: str
    domain: str = ""


@dataclass(frozen=True, slots=True)
class RawCaption:
    """A caption as listed in the file `source`."""

    image_id: int
    annotation_id: int
    text: str
    source: str


@dataclass(frozen=True)
class RawDataset:
    """All images and captions that the user's files list, as they list them.

    `notes` are sentences for the report: what a reader left out or decided. `test_apart`: the ids of the test
    file and of the others are unrelated, even if their numbers are equal.
    """

    images: list[RawImage]
    captions: list[RawCaption]
    notes: list[str] = field(default_factory=list)
    test_apart: bool = False
