"""The three lines of Python: the captions of the pipeline, whatever is given and however it is grouped."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fsgr_model
from fsgr_model import Captioner, UserError, load
from fsgr_model.commands import caption
from fsgr_model.inference.model_folder import export_model
from fsgr_model.runtime.artifacts import load_json
from tests.docs.test_readme import PYTHON
from tests.listings.rooms import ROOT


@pytest.fixture(scope="module")
def model(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_model("xe", folder, project)
    return folder


@pytest.fixture(scope="module")
def captioner(model: Path) -> Captioner:
    return load(model)


@pytest.fixture(scope="module")
def captions(project: Path) -> dict[Path, str]:
    """The captions that the stage `captions` made of the test pictures."""
    rows = load_json(project / "data" / "captions" / "xe.json")
    return {
        project / "data" / "dataset" / "images" / f"{row['image_id']}.png": row["caption"] for row in rows
    }


def in_batches_of(captioner: Captioner, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = captioner.model.decode.model_copy(update={"batch_size": size})
    monkeypatch.setattr(captioner.model, "decode", decode)


def test_captions_are_those_of_the_pipeline(captioner: Captioner, captions: dict[Path, str]) -> None:
    paths = list(captions)
    assert len(set(captions.values())) > 2, "or the order would not matter"
    assert captioner.caption(paths) == [captions[path] for path in paths]
    assert captioner.caption(paths[::-1]) == [captions[path] for path in paths[::-1]]
    assert captioner.caption(str(paths[0])) == captions[paths[0]]
    with Image.open(paths[1]) as picture:
        assert captioner.caption(picture) == captions[paths[1]]
        assert captioner.caption((paths[0], picture)) == [captions[path] for path in paths[:2]]
    assert captioner.caption([]) == []


@pytest.mark.parametrize("options", [{}, {"beam_size": 1}, {"samples": 2, "seed": 7}])
def test_captions_are_those_of_the_command(options, model, captions, monkeypatch, capsys) -> None:
    spelled = {"beam_size": "--beam-size", "samples": "--sample", "seed": "--seed"}
    words = [word for name, value in options.items() for word in (spelled[name], str(value))]
    paths = list(captions)
    monkeypatch.setattr(sys, "argv", ["fsgr caption", "--model", str(model), *words, *map(str, paths)])
    caption.main()
    printed = capsys.readouterr().out
    described = load(model, **options).describe(paths)
    pairs = zip(paths, described, strict=True)
    assert printed == "".join(
        f"{path}\t{each.text}\n" for path, of_image in pairs for each in of_image.captions
    )


@pytest.mark.parametrize("size", [1, 3, 12])
@pytest.mark.parametrize("options", [{}, {"samples": 3, "seed": 7}])
def test_the_size_of_the_batches_changes_no_caption(options, size, model, captions, monkeypatch) -> None:
    captioner, paths = load(model, **options), list(captions)
    expected = captioner.describe(paths)
    in_batches_of(captioner, size, monkeypatch)
    for one, other in zip(captioner.describe(paths), expected, strict=True):
        assert [each.word_ids for each in one.captions] == [each.word_ids for each in other.captions]
        for a, b in zip(one.captions, other.captions, strict=True):
            assert a.log_probability == pytest.approx(b.log_probability, abs=1e-4)


def test_a_picture_is_described(model: Path, captions: dict[Path, str]) -> None:
    captioner = load(model, samples=3, seed=4)
    path = next(iter(captions))
    described = captioner.describe(path)
    assert len(described.captions) == 3
    assert all(caption.log_probability < 0 for caption in described.captions)
    assert described.concept_SS is not None and described.concept_SS.shape == (4, 4)
    assert described.concept_SS.min() >= 0 and described.concept_SS.max() < len(captioner.concepts)
    assert [each.captions for each in captioner.describe([path])] == [described.captions]


def test_the_words_of_a_caption_have_their_probabilities(captioner: Captioner, captions) -> None:
    """With that of the end token, which no greedy choice leaves below a word, they make up the caption's."""
    for described in captioner.describe(list(captions)):
        (best,) = described.captions
        assert " ".join(best.words) == best.text and len(best.word_probabilities) == len(best.words) > 0
        assert all(0 < each <= 1 for each in best.word_probabilities)
        end = best.log_probability - sum(map(math.log, best.word_probabilities))
        assert -5 < end < 1e-6


def test_maps_are_arrays_of_the_patches(captioner: Captioner, captions: dict[Path, str]) -> None:
    path = next(iter(captions))
    described = captioner.describe(path)
    maps = captioner.maps(path)
    assert np.array_equal(maps.concept_SS, described.concept_SS)
    assert maps.label_SS.shape == (4, 4) and maps.label_SS.max() < len(captioner.concepts)
    assert maps.attention_LSS.shape == (len(described.captions[0].words), 4, 4)
    np.testing.assert_allclose(maps.attention_LSS.sum(axis=(1, 2)), 1, rtol=1e-5)
    other = load_with_samples(captioner).describe(path).captions[1]
    assert captioner.maps(path, other).attention_LSS.shape == (len(other.words), 4, 4)


def load_with_samples(captioner: Captioner) -> Captioner:
    return Captioner(captioner.model.with_options(samples=3, seed=5))


def test_options_are_chosen_anew_without_loading(captioner: Captioner, model: Path, captions) -> None:
    paths = list(captions)
    for options in ({"beam_size": 1}, {"samples": 2, "seed": 7}, {}):
        chosen = Captioner(captioner.model.with_options(**options))
        assert chosen.describe(paths)[0].captions == load(model, **options).describe(paths)[0].captions
    assert captioner.caption(paths) == list(captions.values()), "the options of the first one are its own"


def test_the_page_shows_the_interface(captioner: Captioner, captions, monkeypatch, tmp_path, capsys) -> None:
    """The Python of docs/howto/caption.md, block after block."""
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(next(iter(captions)).read_bytes())
    monkeypatch.setattr(fsgr_model, "load", lambda folder: captioner, raising=False)
    blocks = PYTHON.findall((ROOT / "docs" / "howto" / "caption.md").read_text(encoding="utf-8"))
    exec("".join(blocks), {})
    printed = capsys.readouterr().out.splitlines()
    words = captions[next(iter(captions))].split()
    assert printed[0] == " ".join(words) and [line.split()[0] for line in printed[1:-2]] == words
    assert printed[-2] == f"(4, 4) ({len(words)}, 4, 4)" and printed[-1] in captioner.concepts


def test_samples_follow_the_seed_and_leave_the_random_numbers_of_the_program(model, captions) -> None:
    def drawn(seed: int) -> list[str]:
        described = load(model, samples=6, seed=seed).describe(list(captions))
        return [each.text for of_image in described for each in of_image.captions]

    torch.manual_seed(1)
    first, following = drawn(0), torch.rand(3)
    assert first == drawn(0) != drawn(1)
    torch.manual_seed(1)
    assert torch.equal(following, torch.rand(3))


def test_a_picture_that_cannot_be_read_is_an_error(captioner: Captioner, captions, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.jpg: missing"):
        captioner.caption(tmp_path / "nowhere.jpg")
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(UserError, match=r"text\.jpg"):
        captioner.caption([next(iter(captions)), tmp_path / "text.jpg"])
    (tmp_path / "cut.png").write_bytes(next(iter(captions)).read_bytes()[:-200])
    with Image.open(tmp_path / "cut.png") as picture, pytest.raises(UserError, match=r"cut\.png: cannot be"):
        captioner.caption(picture)
    with pytest.raises(TypeError, match=r"a path or a PIL\.Image\.Image, not Tensor"):
        captioner.caption(torch.zeros(3, 8, 8))  # type: ignore[arg-type]


def test_options_that_cannot_be_met_are_errors(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        load(tmp_path)
    for name in ("beam_size", "samples"):
        with pytest.raises(UserError, match=f"{name} must be 1 or more, not 0"):
            load(model, **{name: 0})
    with pytest.raises(UserError, match="exclude each other"):
        load(model, beam_size=2, samples=2)


def test_the_device_can_be_chosen(model: Path, captions: dict[Path, str]) -> None:
    path, expected = next(iter(captions.items()))
    captioner = load(model, device="cpu")
    assert captioner.model.assembly.device == torch.device("cpu") and captioner.caption(path) == expected
    for name in ("teapot", "meta", "cuda:99"):
        with pytest.raises(UserError, match=f"device '{name}' cannot be used on this machine"):
            load(model, device=name)


def test_the_package_itself_imports_no_pytorch() -> None:
    code = "import sys, fsgr_model; print('torch' in sys.modules, fsgr_model.__version__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"False {fsgr_model.__version__}\n"
    assert all(getattr(fsgr_model, name) for name in fsgr_model.__all__)
    assert set(fsgr_model.__all__) <= set(dir(fsgr_model))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fsgr_model.nothing  # noqa: B018
