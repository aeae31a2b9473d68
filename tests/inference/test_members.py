"""Exported networks beside the project's own in the stage `captions`, compared with `fsgr_model.load`."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import pipeline.captions
from fsgr_model.clip import image_reading
from fsgr_model.clip.loading import load_clip, save_clip
from fsgr_model.clip.model_building import build_model, default_preprocessing
from fsgr_model.clip.token_cache import trunk_identity
from fsgr_model.config.model_params import ModelParams
from fsgr_model.config.params import Params, load_params
from fsgr_model.datasets.image_file import open_rgb
from fsgr_model.datasets.normal_form import ImageRecord, read_images
from fsgr_model.inference.ensemble import load
from fsgr_model.inference.members import member_files, read_members
from fsgr_model.inference.model_folder import ModelFiles, exported_model
from fsgr_model.network.assembly import build_captioner, read_parts, save_weights
from fsgr_model.runtime.artifacts import load_json, save_json, sha256_file
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.tensor_file import load_tensors, save_tensors
from fsgr_model.runtime.world import ALONE
from pipeline.captions import caption_split, caption_test_split, read_test_split
from pipeline.codebook import make_codebook
from pipeline.vocab import make_word_list
from tests.listings.stage_deps import PAGE, stages

CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 48, "patch_size": 16, "width": 32, "head_width": 16, "layers": 3},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def params(project: Path) -> Params:
    return load_params(project / "params.yaml")


@pytest.fixture
def members(project: Path, tmp_path: Path) -> Path:
    """A folder with the network `other`, whose weights differ from the project's."""
    folder = tmp_path / "members"
    for part in ("clip", "codebook", "vocab"):
        shutil.copytree(project / "data" / part, folder / "other" / part)
    shutil.copy(project / "params.yaml", folder / "other")
    tensors, facts = load_tensors(project / "data" / "models" / "xe" / "model.safetensors", "")
    torch.manual_seed(1)
    for name, tensor in tensors.items():
        if name.startswith("decoder."):
            tensors[name] = tensor + 1.5 * tensor.std(correction=0) * torch.randn_like(tensor)
    save_tensors(folder / "other" / "model.safetensors", tensors, facts)
    return folder


@pytest.fixture
def foreign(project: Path, params: Params, members: Path) -> Path:
    """`members` with the network `foreign` as well, of another CLIP and size, untrained."""
    folder, dataset = members / "foreign", project / "data" / "dataset"
    preprocessing = default_preprocessing(CLIP, {"resize_mode": "shortest"})
    torch.manual_seed(5)
    save_clip(
        folder / "clip", build_model(CLIP, "other"), "other", CLIP, preprocessing=preprocessing, origin={}
    )
    make_codebook(params.codebook, dataset, clip_folder=folder / "clip", folder=folder / "codebook")
    make_word_list(dataset, clip_folder=folder / "clip", folder=folder / "vocab", params=params.vocab)
    clip = load_clip(folder / "clip", torch.device("cpu"))
    parts = read_parts(folder, clip, trunk_identity(clip.identity, 2, "int8"))
    model = ModelParams.model_validate({**params.model.model_dump(), "d_model": 16, "num_heads": 2})
    save_weights(folder, build_captioner(parts, model, seed=8))
    shutil.copy(project / "params.yaml", folder)
    return members


def pictures(project: Path) -> list[ImageRecord]:
    return read_images(project / "data" / "dataset", "test")


def by_stage(project: Path, folder: Path, names: Sequence[str], params: Params) -> list[str]:
    """The captions of the project's network with members, as the stage makes them."""
    data = project / "data"
    parts, features = read_test_split(data, params.model)
    files = member_files(folder, names)
    rows = caption_split(
        parts,
        features,
        data / "models" / "xe",
        params.model,
        decode=params.decode,
        precision="auto",
        batch_size=5,
        members=read_members(files, features, pictures(project), words=parts.vocabulary),
    )
    return [str(row["caption"]) for row in rows]


def by_pictures(project: Path, folders: Sequence[Path], files: ModelFiles) -> list[str]:
    """The same by `fsgr_model.load`, which reads no cached feature."""
    captioner = load([files, *map(exported_model, folders)])
    prepared = [captioner.prepare(open_rgb(Path(record.path))) for record in pictures(project)]
    return [image.captions[0].text for image in captioner.describe(prepared)]


def test_a_member_of_this_clip_reads_the_cache(
    project: Path, files: ModelFiles, params: Params, members: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = by_pictures(project, [members / "other"], files)
    monkeypatch.setattr(image_reading, "decode_rgb", None)
    found = by_stage(project, members, ["other"], params)
    assert found == expected
    alone = [row["caption"] for row in load_json(project / "data" / "captions" / "xe.json")]
    assert found != alone
    assert by_stage(project, members, [], params) == alone


def test_a_member_of_another_clip_and_size_looks_at_the_pictures(
    project: Path, files: ModelFiles, params: Params, foreign: Path
) -> None:
    names = ["other", "foreign"]
    found = by_stage(project, foreign, names, params)
    assert found == by_pictures(project, [foreign / name for name in names], files)
    assert found != by_stage(project, foreign, ["other"], params)
    parts, features = read_test_split(project / "data", params.model)
    images, weights = pictures(project), member_files(foreign, ["foreign"])
    (member,) = read_members(weights, features, images, words=parts.vocabulary)
    alone = load([exported_model(foreign / "foreign")])
    seen = [alone.prepare(open_rgb(Path(images[place].path))) for place in (3, 1)]
    assert member.tokens([images[3].image_id, images[1].image_id]).equal(alone.tokens(seen))


def test_samples_of_an_ensemble_do_not_depend_on_the_batch(
    project: Path, params: Params, foreign: Path
) -> None:
    values = params.decode.model_dump() | {"sampling": {"samples": 2, "top_k": 3}}
    drawn = params.model_copy(update={"decode": type(params.decode).model_validate(values)})
    parts, features = read_test_split(project / "data", params.model)
    files = member_files(foreign, ["foreign"])
    others = read_members(files, features, pictures(project), words=parts.vocabulary)
    found = [
        caption_split(
            parts,
            features,
            project / "data" / "models" / "xe",
            params.model,
            decode=drawn.decode,
            precision="auto",
            batch_size=size,
            members=others,
        )
        for size in (5, 12)
    ]
    assert found[0] == found[1]


def test_the_stage_writes_the_captions_of_the_ensemble_and_its_members(
    project: Path, params: Params, members: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    shutil.copytree(project / "data", data)
    shutil.copytree(data / "models" / "xe", data / "models" / "scst")
    shutil.copytree(members, data / "members")
    monkeypatch.setattr(pipeline.captions, "DATA", data)
    shutil.rmtree(data / "captions")
    caption_test_split(params.model_copy(update={"ensemble": ["other"]}), ALONE)
    written = {path.stem: load_json(path) for path in (data / "captions").glob("*.json")}
    assert sorted(written) == ["ensemble", "members", "scst", "xe"]
    assert written["members"] == {"other": sha256_file(members / "other" / "model.safetensors")}
    assert written["scst"] == written["xe"] != written["ensemble"]
    shutil.rmtree(data / "captions")
    caption_test_split(params, ALONE)
    assert {path.stem for path in (data / "captions").glob("*.json")} == {"scst", "xe"}
    with pytest.raises(UserError, match=r"has no network zebra; it has other\. In the project that trained"):
        caption_test_split(params.model_copy(update={"ensemble": ["zebra"]}), ALONE)


def test_a_member_of_other_words_is_refused(project: Path, params: Params, members: Path) -> None:
    words = members / "other" / "vocab" / "words.json"
    parts, features = read_test_split(project / "data", params.model)
    other = replace(parts, vocabulary=type(parts.vocabulary)([*load_json(words)[:-1], "zebra"]))
    files = member_files(members, ["other"])
    with pytest.raises(UserError, match=r"^member other of the ensemble has another word list .* in both"):
        read_members(files, features, pictures(project), words=other.vocabulary)


def test_a_picture_that_changed_is_refused(project: Path, params: Params, foreign: Path) -> None:
    parts, features = read_test_split(project / "data", params.model)
    images = pictures(project)
    broken = [replace(images[0], bytes=images[0].bytes + 1), *images[1:]]
    with pytest.raises(UserError, match="1 image files changed since the dataset stage"):
        read_members(member_files(foreign, ["foreign"]), features, broken, words=parts.vocabulary)


@pytest.mark.parametrize("name", ["../other", "a/b", "", ".hidden"])
def test_a_member_is_a_folder_that_dvc_watches(project: Path, tmp_path: Path, name: str) -> None:
    values = yaml.safe_load((project / "params.yaml").read_text()) | {"ensemble": [name]}
    save_json(tmp_path / "params.yaml", values)
    with pytest.raises(UserError, match=r"ensemble\.0: String should match pattern"):
        load_params(tmp_path / "params.yaml")
    captions = stages(PAGE.read_text(encoding="utf-8"))["captions"]
    assert "data/members" in captions["deps"] and "ensemble" in captions["params"]
