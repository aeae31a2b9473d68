"""Features, labels and captions have the same bytes, however many processes shared the work."""

from pathlib import Path

import pytest

from fsgr_model.config.params import Params, RuntimeParams, load_params
from fsgr_model.datasets.normal_form import SPLITS
from fsgr_model.runtime.row_store import RowWriter
from fsgr_model.runtime.world import ALONE, OthersLost
from pipeline.captions import caption_split, read_test_split
from pipeline.features import extract_features
from pipeline.labels import make_label_maps
from tests.worlds.processes import in_processes

# The last batches of the splits of 32, 8 and 12 pictures have 2, 3 and 2.
RUNTIME = RuntimeParams(workers=0, image_batch=5, caption_batch=5)


def features(world, data: Path, params: Params, out: Path) -> None:
    extract_features(
        data / "dataset",
        clip_folder=data / "clip",
        cut=params.clip.cut,
        cache_dtype=params.clip.cache_dtype,
        runtime=RUNTIME,
        out=out,
        world=world,
    )


def labels(world, data: Path, params: Params, out: Path) -> None:
    make_label_maps(
        data / "clip",
        params.clip.cut,
        data / "codebook",
        cache_dtype=params.clip.cache_dtype,
        features=data / "features",
        params=params.labels,
        runtime=RUNTIME,
        out=out,
        world=world,
    )


def captions(world, data: Path, params: Params):
    parts, store = read_test_split(data, params.model)
    return caption_split(
        parts,
        store,
        data / "models" / "xe",
        params.model,
        decode=params.decode,
        precision="auto",
        batch_size=5,
        world=world,
    )


class Gone(Exception):
    """Ends a process as a kill would, as far as the others can see."""


def broken_off(world, work, *given):
    """Rank 1 is gone before its third batch is written."""
    write, calls = RowWriter.write, []

    def write_or_die(writer, image_ids, rows):
        if world.rank == 1 and len(calls) == 2:
            raise Gone
        calls.append(image_ids)
        write(writer, image_ids, rows)

    RowWriter.write = write_or_die
    with pytest.raises((Gone, OthersLost)):
        work(world, *given)


def bytes_of(folder: Path) -> list[bytes]:
    return [(folder / f"{split}.h5").read_bytes() for split in SPLITS]


@pytest.mark.parametrize("work", [features, pytest.param(labels, marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_files_have_the_same_bytes_also_when_another_number_goes_on(
    project, tmp_path, monkeypatch, work, size
):
    data, params = project / "data", load_params(project / "params.yaml")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    work(ALONE, data, params, tmp_path / "one")
    in_processes(2, tmp_path / "broken", broken_off, work, data, params, tmp_path / "several")
    assert not (tmp_path / "several").exists()
    in_processes(size, tmp_path / "work", work, data, params, tmp_path / "several")
    assert bytes_of(tmp_path / "several") == bytes_of(tmp_path / "one")
    assert not list((tmp_path / ".resume").iterdir())


def test_captions_are_the_same(project, tmp_path):
    data, params = project / "data", load_params(project / "params.yaml")
    expected = captions(ALONE, data, params)
    assert len({row["caption"] for row in expected}) > 1
    assert in_processes(2, tmp_path / "2", captions, data, params) == [expected, expected]
