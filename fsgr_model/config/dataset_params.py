"""The section `dataset` of params.yaml: where images and captions come from."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fsgr_model.config.section import Count, Fraction, Section


class DemoWorldParams(Section):
    """Size of the demo world, which the project draws itself."""

    train_images: Count = Field(description="scenes in the training split")
    val_images: Count = Field(description="scenes in the validation split")
    test_images: Count = Field(description="scenes in the test split, half of them unseen combinations")
    pretraining_images: Annotated[int, Field(ge=0)] = Field(
        0,
        description="scenes for the demo's CLIP only, of any combination, most with one kind of thing, as a "
        "real CLIP has seen far more than COCO; 0: it trains on the training split",
    )


class PerSplit(Section):
    """One file, folder or pattern per split, below `dataset.root`."""

    train: str
    val: str
    test: str


class ShardParams(PerSplit):
    """Tar files of each split, as patterns, and how their texts are read."""

    caption_a_line: bool = Field(
        False,
        description="each line of a .txt is a caption of its own; otherwise the whole .txt is one caption",
    )


class CaptionSource(Section):
    """A COCO caption file and the folder of its images, both below `dataset.root`."""

    captions: str = Field(description="COCO caption file: annotations/captions_train2014.json")
    images: str = Field(description="folder that its file names start from: train2014")


class M2Params(Section):
    """The split files of the M2 Transformer (arXiv 1912.08226), which hold annotation ids."""

    ids: str = Field(description="folder of coco_{train,restval,dev,test}_ids.npy, below root")
    sources: Annotated[list[CaptionSource], Field(min_length=1)] = Field(
        description="the caption files that the ids point into"
    )
    partial: bool = Field(
        False, description="the caption files hold only some of the ids; the others are left out and counted"
    )


class TableParams(Section):
    """A table of file names and captions."""

    file: str | PerSplit = Field(
        description="CSV, TSV, JSON, or Flickr's token file or results.csv, below root; or one per split"
    )
    splits: PerSplit | None = Field(
        None, description="lists of file names, one per line, such as Flickr_8k.trainImages.txt, below root"
    )
    val_share: Fraction = Field(0.1, description="images drawn for validation, if the file names no splits")
    test_share: Fraction = Field(0.1, description="images drawn for the test, if the file names no splits")

    @model_validator(mode="after")
    def _some_are_left(self) -> "TableParams":
        if self.val_share + self.test_share >= 1:
            raise ValueError(
                f"val_share {self.val_share} and test_share {self.test_share} leave no training images; "
                "together they must be below 1"
            )
        if self.splits and isinstance(self.file, PerSplit):
            raise ValueError("with one file per split table.splits is not needed; give one of the two")
        return self

    @property
    def files(self) -> dict[str, str]:
        """The tables, with the parameter that names each."""
        return _named(self.file, "dataset.table.file")

    @property
    def lists(self) -> dict[str, str]:
        """The lists of file names, with the parameter that names each."""
        return _named(self.splits, "dataset.table.splits") if self.splits else {}


def _named(files: str | PerSplit, parameter: str) -> dict[str, str]:
    if isinstance(files, str):
        return {files: parameter}
    return {name: f"{parameter}.{split}" for split, name in files}


# The parameter that holds the files of each format.
FILES_OF_FORMAT = {
    "demo": "demo",
    "coco": "captions",
    "nocaps": "captions",
    "blip": "captions",
    "textcaps": "captions",
    "narratives": "captions",
    "karpathy": "karpathy_file",
    "m2": "m2",
    "folder": "table",
    "webdataset": "shards",
}


class DatasetParams(Section):
    """Where images and captions come from."""

    format: Literal[
        "demo",
        "coco",
        "nocaps",
        "blip",
        "textcaps",
        "narratives",
        "karpathy",
        "m2",
        "folder",
        "webdataset",
    ] = Field(description="which reader turns the files into the normal form")
    root: str = Field(description="folder of the dataset; DVC watches `root`/`watch`")
    watch: str = Field(
        description="file or folder below root whose change reruns everything; '.' is the whole root"
    )
    images: str | PerSplit = Field(
        ".", description="folder of the images, below root; or one per split, where the lists are one a split"
    )
    captions: PerSplit | None = Field(
        None,
        description="coco, nocaps, blip, textcaps and narratives: one caption file per split, below root",
    )
    karpathy_file: str | None = Field(None, description="format karpathy: dataset_*.json, below root")
    m2: M2Params | None = Field(None, description="format m2: id files and caption files")
    table: TableParams | None = Field(None, description="format folder: the table of captions")
    shards: ShardParams | None = Field(
        None, description="format webdataset: the tar files of each split, as a pattern below root"
    )
    instances: list[str] = Field(
        [], description="COCO instance files below root, for CHAIR and label accuracy"
    )
    on_bad_image: Literal["fail", "skip"] = Field(
        "fail",
        description="if an image is missing or cannot be decoded: stop, or leave it out everywhere",
    )
    on_duplicate_image: Literal["fail", "report"] = Field(
        "report", description="if two files have the same bytes: stop, or only report them"
    )
    demo: DemoWorldParams | None = Field(None, description="format demo: number of scenes")
    seed: Annotated[int, Field(ge=0)] = Field(
        42, description="seed of the demo world, and of the splits of a table that names none"
    )

    @model_validator(mode="after")
    def _format_has_its_files(self) -> "DatasetParams":
        needed = FILES_OF_FORMAT[self.format]
        if getattr(self, needed) is None:
            raise ValueError(f"format {self.format} needs dataset.{needed}")
        by_split = needed == "captions" or (
            self.format == "folder" and self.table is not None and isinstance(self.table.file, PerSplit)
        )
        if isinstance(self.images, PerSplit) and not by_split:
            raise ValueError(f"format {self.format} has one folder of images; give dataset.images as one")
        if self.format == "nocaps" and self.instances:
            raise ValueError("format nocaps has no masks; set dataset.instances: []")
        return self
