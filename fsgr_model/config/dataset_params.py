"""The section `dataset` of params.yaml: where images and captions come from, named as its format has them."""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from fsgr_model.config.section import Count, Fraction, Section, Seed

Language = Literal["en", "zh"]


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
    language: Language = Field(
        "en",
        description="language of captions and concepts: en, or zh: Chinese, whose words no space divides",
    )


class PerSplit(Section):
    """One file, folder or pattern per split, below `dataset.root`."""

    train: str
    val: str
    test: str


class ShardParams(PerSplit):
    """Tar files of each split, as patterns, and how their texts are read."""

    train: str = Field(description="tar files of the training split, below root: train-*.tar")
    val: str = Field(description="tar files of the validation split, below root")
    test: str = Field(description="tar files of the test split, below root")
    caption_per_line: bool = Field(
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


FORMAT = "which reader turns the files into the normal form"


class AnyDataset(Section):
    """What the dataset of every format has."""

    root: str = Field(description="folder of the dataset; DVC watches `root`/`watch`")
    watch: str = Field(
        description="file or folder below root whose change reruns everything; '.' is the whole root"
    )


class DemoDataset(AnyDataset):
    """A world that the project draws itself; `watch` names its file."""

    format: Literal["demo"] = Field(description=FORMAT)
    demo: DemoWorldParams
    seed: Seed = Field(description="seed of all that is drawn")


class PictureDataset(AnyDataset):
    """What every dataset of the user's own pictures has."""

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


class CaptionFilesDataset(PictureDataset):
    """One caption file per split: COCO, nocaps, BLIP, TextCaps, Localized Narratives, AI Challenger."""

    format: Literal["coco", "nocaps", "blip", "textcaps", "narratives", "ai_challenger"] = Field(
        description=FORMAT
    )
    images: str | PerSplit = Field(description="folder of the images, below root; or one per split")
    captions: PerSplit = Field(description="one caption file per split, below root")

    @model_validator(mode="after")
    def _nocaps_has_no_masks(self) -> "CaptionFilesDataset":
        if self.format == "nocaps" and self.instances:
            raise ValueError("format nocaps has no masks; set dataset.instances: []")
        return self


class KarpathyDataset(PictureDataset):
    """The split that captioning papers use (arXiv 1412.2306)."""

    format: Literal["karpathy"] = Field(description=FORMAT)
    images: str = Field(description="folder of the images, below root")
    karpathy_file: str = Field(description="dataset_*.json, below root")


class M2Dataset(PictureDataset):
    """The split of the M2 Transformer."""

    format: Literal["m2"] = Field(description=FORMAT)
    m2: M2Params


class TableDataset(PictureDataset):
    """A folder of pictures and a table of captions."""

    format: Literal["folder"] = Field(description=FORMAT)
    images: str | PerSplit = Field(
        description="folder of the images, below root; or one per split, if the table is one per split"
    )
    table: TableParams
    seed: Seed = Field(description="seed of the splits, if the table names none")

    @model_validator(mode="after")
    def _folders_go_with_tables(self) -> "TableDataset":
        if isinstance(self.images, PerSplit) and isinstance(self.table.file, str):
            raise ValueError("one table for all splits has one folder of images; give dataset.images as one")
        return self


class ShardDataset(PictureDataset):
    """Tar files, as WebDataset has them."""

    format: Literal["webdataset"] = Field(description=FORMAT)
    shards: ShardParams


UserDataset = CaptionFilesDataset | KarpathyDataset | M2Dataset | TableDataset | ShardDataset
DatasetParams = Annotated[DemoDataset | UserDataset, Field(discriminator="format")]
KINDS = (DemoDataset, CaptionFilesDataset, KarpathyDataset, M2Dataset, TableDataset, ShardDataset)
KIND_OF_FORMAT: dict[str, type[AnyDataset]] = {
    name: kind for kind in KINDS for name in get_args(kind.model_fields["format"].annotation)
}


def foreign_names(values: object) -> list[str]:
    """The parameters of a section `dataset` that other formats have, and its own has not."""
    if not isinstance(values, dict) or not isinstance(values.get("format"), str):
        return []
    kind = KIND_OF_FORMAT.get(values["format"])
    known = {name for each in KINDS for name in each.model_fields}
    return [name for name in values if kind and name in known and name not in kind.model_fields]


def files_of_format(name: str) -> str:
    """The parameter of a section `dataset` that names the files of its format."""
    files = {"captions", "karpathy_file", "m2", "table", "shards", "demo"}
    return next(field for field in KIND_OF_FORMAT[name].model_fields if field in files)
