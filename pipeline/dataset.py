"""Stage `dataset`: images, captions and instances in the one normal form that every later stage reads."""

from dataclasses import replace
from pathlib import Path

from fsgr_model.config.dataset_params import DatasetParams, DemoDataset
from fsgr_model.config.params import load_params
from fsgr_model.config.text_params import Segmenter
from fsgr_model.datasets.demo.world import draw_demo_world, draw_pretraining
from fsgr_model.datasets.image_check import duplicate_groups, refuse_duplicates
from fsgr_model.datasets.normal_form import PICTURES, PRETRAINING, write_dataset
from fsgr_model.datasets.reading import Reading, read_dataset
from fsgr_model.datasets.report import dataset_report, print_summary
from fsgr_model.runtime.artifacts import whole_folder
from fsgr_model.runtime.errors import run_command
from fsgr_model.text.segmenters import check_segmenter

DATASET = Path("data/dataset")


def build_dataset(params: DatasetParams, place: Path, workers: int, segmenter: Segmenter = "ptb") -> None:
    """Make the folder `place`, complete or not at all; `workers` processes decode images.

    `segmenter` divides the captions into words.

    Raises:
        UserError: the files break a rule of the contract, or the segmenter is not installed; nothing is
            written then.
    """
    check_segmenter(segmenter)
    with whole_folder(place) as folder:
        reading = (
            _draw(params, place, folder, segmenter)
            if isinstance(params, DemoDataset)
            else read_dataset(params, place, folder, workers=workers, segmenter=segmenter)
        )
        groups = duplicate_groups(reading.dataset.images)
        if not isinstance(params, DemoDataset) and params.on_duplicate_image == "fail":
            refuse_duplicates(groups)
        report = dataset_report(reading.dataset, reading.bad, groups, reading.notes, read=reading.read)
        write_dataset(folder, replace(reading.dataset, report=report))
        _fill_folders(folder)
    print_summary(report, groups, place)


def _fill_folders(folder: Path) -> None:
    """Put a text file into each empty folder of pictures: DVC needs every output and warns of empty ones."""
    for name in (PICTURES, PRETRAINING):
        (folder / name).mkdir(exist_ok=True)
        if not any((folder / name).iterdir()):
            (folder / name / "README").write_text("The stage made no pictures for this dataset.\n", "utf-8")


def _draw(params: DemoDataset, place: Path, folder: Path, segmenter: Segmenter) -> Reading:
    world = Path(params.root) / params.watch
    if params.demo.pretraining_images:
        apart = folder / PRETRAINING
        place_apart = (place / PRETRAINING).as_posix()
        write_dataset(
            apart,
            draw_pretraining(world, params.demo, params.seed, apart, place=place_apart, segmenter=segmenter),
        )
    drawn = draw_demo_world(
        world, params.demo, params.seed, folder, place=place.as_posix(), segmenter=segmenter
    )
    return Reading(drawn, [], [])


def main() -> None:
    params = load_params()
    build_dataset(params.dataset, DATASET, params.runtime.workers, params.text.tokenizer)


if __name__ == "__main__":
    run_command(main)
