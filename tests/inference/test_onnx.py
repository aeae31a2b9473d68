"""ONNX graphs caption as the network in PyTorch does, and what cannot be is refused with its reason."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fsgr_model import Captioner, UserError, load
from fsgr_model.clip.token_cache import round_tokens
from fsgr_model.commands import page
from fsgr_model.inference import onnx_export
from fsgr_model.inference.image_captioner import ImageCaptioner
from fsgr_model.inference.model_folder import export_model, exported_model, pipeline_model
from fsgr_model.inference.onnx_captioner import OnnxCaptioner, Session
from fsgr_model.inference.onnx_folder import DESCRIPTION, OnnxFiles, write_description
from fsgr_model.inference.onnx_graphs import Graph, TrunkGraph
from fsgr_model.runtime.artifacts import load_json, save_json
from fsgr_model.runtime.errors import run_command

IMAGES = "data/dataset/images"


@pytest.fixture(scope="module")
def folder(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("onnx") / "model"
    export_model("xe", out, project, onnx=True)
    return out


@pytest.fixture(scope="module")
def paths(project: Path) -> list[Path]:
    rows = load_json(project / "data" / "captions" / "xe.json")
    return [project / IMAGES / f"{row['image_id']}.png" for row in rows]


@pytest.fixture(scope="module")
def plain(project: Path) -> ImageCaptioner:
    return ImageCaptioner(pipeline_model("xe", project))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The folder, to be changed."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


WISHES = [
    {},
    {"beam_size": 1},
    {"n_best": 3},
    {"samples": 4, "seed": 3},
    {"decode": {"length.min_words": 6, "words.no_repeat": 1}},
    {"decode": {"words.must": ["wall"]}},
    {"region": (0.1, 0.2, 0.6, 0.9)},
]


@pytest.mark.parametrize("wishes", WISHES, ids=str)
def test_captions_are_those_of_pytorch(wishes, folder: Path, plain: ImageCaptioner, paths) -> None:
    ours, theirs = Captioner(plain.with_options(**wishes)), load(folder)
    theirs = Captioner(theirs.model.with_options(**wishes))
    for one, other in zip(ours.describe(paths), theirs.describe(paths), strict=True):
        assert [each.text for each in one.captions] == [each.text for each in other.captions]
        for a, b in zip(one.captions, other.captions, strict=True):
            assert a.word_log_probabilities == pytest.approx(b.word_log_probabilities, abs=1e-4)
        assert np.array_equal(one.concept_SS, other.concept_SS)


@pytest.mark.slow
def test_captions_of_a_hundred_pictures_are_those_of_pytorch(folder: Path, plain, tmp_path: Path) -> None:
    """Pictures of any colours, with all that the network may say of them."""
    draw = np.random.default_rng(5)
    colours, sizes = draw.integers(0, 256, (100, 2, 3)), draw.integers(8, 80, (100, 2))
    paths = [tmp_path / f"{number}.png" for number in range(100)]
    for path, (upper, lower), (height, width) in zip(paths, colours, sizes, strict=True):
        pixels = np.where(np.arange(height)[:, None, None] < height / 2, upper, lower).repeat(width, axis=1)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    ours = Captioner(plain).describe(paths)
    theirs = load(folder).describe(paths)
    assert len({described.captions[0].text for described in ours}) > 3
    assert [each.captions[0].text for each in ours] == [each.captions[0].text for each in theirs]


def test_the_size_of_the_batches_changes_no_caption(folder: Path, paths) -> None:
    captioner = load(folder)
    together = captioner.describe(paths)
    for path, described in zip(paths, together, strict=True):
        assert captioner.describe(path).captions[0].word_ids == described.captions[0].word_ids


def test_graphs_and_weights_choose_words_together(folder: Path, project: Path, paths) -> None:
    """The ensemble of a network with its own graphs is the network."""
    weights = folder.with_name("weights")
    if not weights.exists():
        export_model("xe", weights, project)
    assert load([folder, weights]).caption(paths) == load([weights, folder]).caption(paths)
    assert load([folder, weights]).caption(paths) == load(weights).caption(paths)


@pytest.mark.parametrize("cache_dtype", ["float16", "int8"])
def test_tokens_are_rounded_as_in_the_cache(cache_dtype, tmp_path: Path) -> None:
    """onnxruntime must not leave out a number format that is only passed through."""
    tokens = 3 * torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    tokens[0, 0] = 0
    module = TrunkGraph(torch.nn.Identity(), cache_dtype)
    graph = Graph(module, {"images": tokens}, {"images": {0: "images"}}, ("tokens",))
    onnx_export.write_graph(graph, tmp_path / "trunk.onnx", of="it")
    found = Session(tmp_path / "trunk.onnx")({"images": tokens[:1]})["tokens"]
    assert torch.equal(found, round_tokens(tokens[:1], cache_dtype))
    assert not torch.equal(found, tokens[:1])


def test_it_captions_where_nothing_of_the_project_is(folder: Path, plain, paths, tmp_path: Path) -> None:
    """No weights of CLIP, no concepts' embeddings, no file of the pipeline."""
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".onnx", ".json", ".yaml", ".md"}
    assert 'pip install ".[onnx]"' in (folder / "README.md").read_text()
    shutil.copytree(folder, tmp_path / "model")
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "fsgr_model",
        "caption",
        "--model",
        "model",
        str(paths[0]),
    ]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{paths[0]}\t{Captioner(plain).caption(paths[0])}\n"


def test_a_folder_of_a_newer_version_is_refused(copy: Path) -> None:
    facts = load_json(copy / DESCRIPTION)
    save_json(copy / DESCRIPTION, facts | {"format_version": 2, "graphs": "in another form"})
    with pytest.raises(
        UserError, match=r"onnx\.json was written by a newer version of this project: format 2"
    ):
        load(copy)


@pytest.mark.parametrize("content", [[], {}, {"format_version": "1"}, "text"])
def test_a_description_of_something_else_is_refused(content, copy: Path) -> None:
    save_json(copy / DESCRIPTION, content)
    with pytest.raises(UserError, match=r"onnx\.json describes no graphs of this project"):
        load(copy)


def test_a_description_that_was_changed_is_refused(copy: Path) -> None:
    facts = load_json(copy / DESCRIPTION)
    save_json(copy / DESCRIPTION, facts | {"concepts": facts["concepts"][::-1]})
    with pytest.raises(UserError, match=r"onnx\.json is not as it was written"):
        load(copy)


@pytest.mark.parametrize("name", ["trunk.onnx", "tail.onnx", "step.onnx", "vocab/words.json"])
def test_a_file_that_was_cut_or_lost_is_refused(name: str, copy: Path) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=rf"{name} is not the file that onnx\.json describes"):
        load(copy)
    (copy / name).unlink()
    with pytest.raises(UserError, match=rf"{name} does not exist; get the folder again"):
        load(copy)


def test_a_graph_that_onnxruntime_does_not_read_is_refused(copy: Path) -> None:
    """As one of a later ONNX: this one has the IR version 99."""
    import onnx

    graph = onnx.load(copy / "step.onnx")
    graph.ir_version = 99
    onnx.save(graph, copy / "step.onnx")
    write_description(copy, without_files(load_json(copy / DESCRIPTION)))
    with pytest.raises(
        UserError, match=r"onnxruntime .* does not read .*step\.onnx: .*install a newer onnxr"
    ):
        load(copy)


def without_files(facts: dict) -> dict:
    return {
        key: value for key, value in facts.items() if key not in ("files", "fingerprint", "format_version")
    }


def test_maps_are_refused_with_their_reason(folder: Path, paths, monkeypatch) -> None:
    with pytest.raises(
        UserError, match=r"label maps and attention are not in ONNX graphs: .* without --onnx"
    ):
        load(folder).maps(paths[0])
    monkeypatch.setattr(sys, "argv", ["fsgr page", "--model", str(folder)])
    with pytest.raises(UserError, match="the page shows where the network looked: label maps and attention"):
        page.served(page.parse())


def test_a_sheet_is_refused_before_anything_is_captioned(folder: Path, paths, tmp_path, monkeypatch, capsys):
    from fsgr_model.commands import caption

    words = ["fsgr caption", "--model", folder, "--overlay", tmp_path / "sheets", paths[0]]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    with pytest.raises(SystemExit, match="label maps and attention are not in ONNX graphs"):
        run_command(caption.main)
    assert not capsys.readouterr().out and not (tmp_path / "sheets").exists()


def test_another_device_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"ONNX graphs, which run on the CPU here, not on cuda:0"):
        exported = exported_model(folder)
        assert isinstance(exported, OnnxFiles)
        OnnxCaptioner(exported, device=torch.device("cuda:0"))


def test_without_onnxruntime_the_extra_is_named(folder: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r'package onnxruntime.*: pip install "fsgr-captioning\[onnx\]"$'):
        load(folder)


def test_without_the_exporter_the_extra_is_named(project: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r'package onnxscript.*: pip install "fsgr-captioning\[onnx\]"$'):
        export_model("xe", tmp_path / "out", project, onnx=True)
    assert not (tmp_path / "out").exists()


class Rooted(torch.nn.Module):
    """Something that ONNX has no operator for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(x).real


def test_what_has_no_form_in_onnx_is_refused_with_its_reason(tmp_path: Path) -> None:
    graph = Graph(Rooted(), {"x": torch.randn(3, 3)}, {}, ("y",))
    with pytest.raises(UserError, match=r"the tail has no form in ONNX, .*: .*linalg_eig.*export it without"):
        onnx_export.write_graph(graph, tmp_path / "tail.onnx", of="the tail")
    assert not list(tmp_path.iterdir())


class ForTwo(torch.nn.Module):
    """Its number of images becomes that of the example: len() gives a plain number."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (x + torch.ones(1, 3).expand(len(x), -1),)


def test_a_size_that_would_be_fixed_is_refused(tmp_path: Path) -> None:
    graph = Graph(ForTwo(), {"x": torch.randn(2, 3)}, {"x": {0: "images"}}, ("y",))
    with pytest.raises(
        UserError, match=r"the number of images of its input x would always be 2; export it wi"
    ):
        onnx_export.write_graph(graph, tmp_path / "tail.onnx", of="the tail")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_graph_that_computes_something_else_leaves_nothing(
    project: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(onnx_export, "MOST_DIFFERENCE", 0.0)
    with pytest.raises(
        UserError, match=r"graph of the \w+ does not compute what PyTorch does: its \w+ differ"
    ):
        export_model("xe", tmp_path / "out" / "model", project, onnx=True)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.nightly
def test_large_weights_lie_beside_their_graph(project: Path, paths, plain, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(onnx_export, "MOST_BYTES", 20_000)
    export_model("xe", tmp_path / "model", project, onnx=True)
    assert (tmp_path / "model" / "trunk.onnx.data").stat().st_size > 20_000
    assert load(tmp_path / "model").caption(paths) == Captioner(plain).caption(paths)
    (tmp_path / "model" / "trunk.onnx.data").write_bytes(b"short")
    with pytest.raises(UserError, match=r"trunk\.onnx\.data is not the file that onnx\.json describes"):
        load(tmp_path / "model")
