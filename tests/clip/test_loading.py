import json
import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fsgr_model.clip import sources
from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.model_building import build_model, build_preprocess, default_preprocessing
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.sources import note_activation
from fsgr_model.clip.weight_files import OPENAI_EXTRAS
from fsgr_model.config.params import ClipParams, RuntimeParams
from fsgr_model.runtime.errors import UserError
from pipeline.clip import prepare_clip
from tests.worlds.clip import tiny_config

CPU = torch.device("cpu")
AS_OPENAI = {"preprocess_as": "ViT-B-16/openai"}


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(tiny_config()))
    return path


@pytest.fixture
def model():
    torch.manual_seed(9)
    return build_model(tiny_config(), "tiny").eval()


def prepare(model_name, pretrained, out, **more):
    params = ClipParams(model=str(model_name), pretrained=str(pretrained), cut=1, **more)
    prepare_clip(
        params.model,
        pretrained=params.pretrained,
        resize_mode=params.resize_mode,
        preprocess_as=params.preprocess_as,
        training=params.training,
        dataset=Path("no dataset is needed"),
        runtime=RuntimeParams(),
        out=out,
    )
    return out


def check_same(model, folder):
    clip = load_clip(folder, CPU)
    images = torch.randn(2, 3, 32, 32)
    texts = clip.tokenizer(["a dog", "two cats on a mat"])
    with torch.inference_mode():
        torch.testing.assert_close(clip.model.encode_image(images), model.encode_image(images))
        torch.testing.assert_close(clip.model.encode_text(texts), model.encode_text(texts))
    assert not any(parameter.requires_grad for parameter in clip.model.parameters())
    return clip


@pytest.mark.parametrize("form", ["plain .pt", "training .pt", ".safetensors"])
def test_checkpoints_that_open_clip_reads(form, model, config_file, tmp_path):
    path = tmp_path / f"weights{form[-3:] if 'pt' in form else form}"
    weights = model.state_dict()
    if form == ".safetensors":
        save_file(weights, path)
    elif form == "plain .pt":
        torch.save(weights, path)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in weights.items()}}, path)
    check_same(model, prepare(config_file, path, tmp_path / "clip", **AS_OPENAI))


def test_archive_of_openai_is_read_and_has_quick_gelu(model, config_file, tmp_path):
    """OpenAI published traced float16 models with three numbers among the weights."""
    for name, number in (("input_resolution", 32), ("context_length", 12), ("vocab_size", 49408)):
        model.__dict__.pop(name, None)
        model.register_buffer(name, torch.tensor(number))
    mask = model._buffers.pop("attn_mask")
    model.attn_mask = mask
    inputs = (torch.zeros(1, 3, 32, 32), torch.zeros(1, 12, dtype=torch.int64))
    path = tmp_path / "ViT-tiny.pt"
    torch.jit.trace(model, inputs, check_trace=False).save(path)
    folder = prepare(config_file, path, tmp_path / "clip")
    quick = build_model({**tiny_config(), "quick_gelu": True}, "tiny").eval()
    quick.load_state_dict({k: v for k, v in model.state_dict().items() if k not in OPENAI_EXTRAS})
    check_same(quick, folder)


@pytest.mark.parametrize(("tag", "quick_gelu"), [("openai", True), ("laion2b_s34b_b88k", False)])
@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-B-16-quickgelu"])
def test_activation_is_the_one_of_the_tag(name, tag, quick_gelu, model, tmp_path, monkeypatch):
    """Also where the architecture's name says otherwise."""
    path = tmp_path / "weights.pt"
    torch.save(model.state_dict(), path)
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: tiny_config())
    known = open_clip.get_pretrained_cfg(name, tag) or open_clip.get_pretrained_cfg("ViT-B-16", tag)
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: known)
    monkeypatch.setattr(sources, "fetch_weights", lambda hf_hub: path)
    folder = prepare(name, tag, tmp_path / "clip")
    assert json.loads((folder / "clip.json").read_text())["config"]["quick_gelu"] is quick_gelu
    kinds = {type(module).__name__ for module in load_clip(folder, CPU).model.modules()}
    assert ("QuickGELU" in kinds) is quick_gelu


@pytest.mark.parametrize(
    ("name", "config", "told"),
    [
        ("ViT-B-16", {}, "want clip.model: ViT-B-16-quickgelu"),
        ("ViT-B-16", {"quick_gelu": True}, ""),
        ("ViT-B-16-quickgelu", {"quick_gelu": True}, ""),
        ("ViT-H-16", {}, ""),
    ],
)
def test_an_architecture_of_two_activations_is_told(name, config, told, capsys):
    note_activation(name, config)
    said = capsys.readouterr().out
    assert told in said and bool(said) is bool(told)


def test_no_connection_says_what_to_do(monkeypatch, tmp_path):
    def fail(hf_hub):
        raise FileNotFoundError("Failed to download file.\nCheck your connection")

    monkeypatch.setattr(sources, "fetch_weights", fail)
    with pytest.raises(
        UserError,
        match=r"'openai' of ViT-B-16 cannot be downloaded: .*open_clip_config.json .*clip.pretrained: folder",
    ):
        prepare("ViT-B-16", "openai", tmp_path / "clip")
    assert not (tmp_path / "clip").exists()


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("ViT-B-61", "openai", "no architecture 'ViT-B-61'"),
        ("ViT-B-16", "openia", "'openia' is no file, and no tag of ViT-B-16 .*laion400m"),
        ("nowhere.json", "openai", "nowhere.json does not exist"),
    ],
)
def test_wrong_names(name, pretrained, message, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "fetch_weights", lambda hf_hub: tmp_path / "unused")
    with pytest.raises(UserError, match=message):
        prepare(name, pretrained, tmp_path / "clip")


def test_config_without_towers(tmp_path):
    (tmp_path / "bad.json").write_text('{"embed_dim": 8}')
    with pytest.raises(UserError, match="needs embed_dim, vision_cfg and text_cfg"):
        prepare(tmp_path / "bad.json", "openai", tmp_path / "clip")


class Malicious:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def _truncated(path, model):
    torch.save(model.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-5000])


def _of_another_model(path, model):
    torch.save(build_model(tiny_config(width=48), "wide").state_dict(), path)


def _of_another_image_size(path, model):
    """Other position embeddings: resizing them would hide that the wrong architecture was named."""
    torch.save(build_model(tiny_config(image_size=64), "larger").state_dict(), path)


def _empty(path, model):
    torch.save({}, path)


def _with_a_weight_missing(path, model):
    torch.save({key: value for key, value in model.state_dict().items() if key != "visual.proj"}, path)


def _with_code(path, model):
    with path.open("wb") as file:
        pickle.dump(Malicious(), file)


def _text(path, model):
    path.write_text("these are not the weights")


BROKEN = [
    _truncated,
    _of_another_model,
    _of_another_image_size,
    _empty,
    _with_a_weight_missing,
    _with_code,
    _text,
]


@pytest.mark.parametrize("write", BROKEN)
def test_a_bad_checkpoint_is_refused(write, model, config_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "weights.pt", model)
    with pytest.raises(UserError, match=r"weights\.pt cannot be loaded into tiny"):
        prepare(config_file, tmp_path / "weights.pt", tmp_path / "clip", **AS_OPENAI)
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "clip").exists()


def test_a_file_of_something_else_is_told(config_file, tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(
        UserError, match=r"list\.pt cannot be loaded .*it contains a list, not weights by name"
    ):
        prepare(config_file, tmp_path / "list.pt", tmp_path / "clip", **AS_OPENAI)


@pytest.mark.parametrize("damage", ["changed", "cut short", "gone"])
def test_load_refuses_weights_that_the_description_does_not_name(damage, clip_folder, tmp_path):
    for file in clip_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "clip.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    if damage == "gone":
        weights.unlink()
    else:
        weights.write_bytes(data if damage == "changed" else data[:-9])
    with pytest.raises(UserError, match=r"clip\.safetensors (is not the file|does not exist)"):
        load_clip(tmp_path, CPU)


def test_identity_changes_with_weights_activation_and_preprocessing(model, config_file, tmp_path):
    torch.save(model.state_dict(), tmp_path / "a.pt")
    with torch.no_grad():
        model.visual.proj += 1
    torch.save(model.state_dict(), tmp_path / "b.pt")
    quick = tmp_path / "quick" / "tiny.json"
    quick.parent.mkdir()
    quick.write_text(json.dumps({**tiny_config(), "quick_gelu": True}))
    identities = [
        load_clip(
            prepare(config, tmp_path / weights, tmp_path / f"clip{number}", **AS_OPENAI, **more), CPU
        ).identity
        for number, (config, weights, more) in enumerate(
            [
                (config_file, "a.pt", {}),
                (config_file, "a.pt", {}),
                (config_file, "b.pt", {}),
                (quick, "a.pt", {}),
                (config_file, "a.pt", {"resize_mode": "shortest"}),
            ]
        )
    ]
    assert identities[0] == identities[1]
    assert all(other != identities[0] for other in identities[2:])


@pytest.mark.parametrize(("mode", "whole"), [("squash", True), ("shortest", False)])
def test_resize_mode_keeps_or_crops_the_sides(mode, whole):
    wide = Image.new("RGB", (96, 32), "black")
    wide.paste("white", (0, 0, 24, 32))
    preprocess = build_preprocess(default_preprocessing(tiny_config(), {"resize_mode": mode}))
    bright = preprocess(wide)[0] > 0
    assert bright.shape == (32, 32)
    assert bool(bright.any()) is whole
