"""A CLIP in its own folder, in the form of open_clip and in that of transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.model_building import build_model
from fsgr_model.config.params import RuntimeParams
from fsgr_model.runtime.errors import UserError
from pipeline.clip import prepare_clip
from tests.worlds.clip import tiny_config

QUICK = {**tiny_config(), "quick_gelu": True}
MEAN, DEVIATION = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(9)
    return build_model(QUICK, "tiny").eval()


def prepare(
    folder: Path | str, out: Path, pretrained: str = "folder", preprocess_as: str | None = None
) -> Path:
    place = Path("no dataset is needed")
    prepare_clip(
        str(folder),
        pretrained=pretrained,
        resize_mode="squash",
        preprocess_as=preprocess_as,
        training=None,
        dataset=place,
        runtime=RuntimeParams(),
        out=out,
    )
    return out


def check_same(model: nn.Module, clip_folder: Path) -> None:
    clip = load_clip(clip_folder, torch.device("cpu"))
    images = torch.randn(2, 3, 32, 32)
    texts = clip.tokenizer(["a dog", "two cats on a mat"])
    with torch.inference_mode():
        torch.testing.assert_close(clip.model.encode_image(images), model.encode_image(images))
        torch.testing.assert_close(clip.model.encode_text(texts), model.encode_text(texts))
        torch.testing.assert_close(clip.model.logit_scale, model.logit_scale)


def preprocessing(clip_folder: Path) -> dict[str, Any]:
    return json.loads((clip_folder / "clip.json").read_text())["preprocessing"]


def write_open_clip(folder: Path, model: nn.Module, **described: Any) -> Path:
    folder.mkdir()
    content = {"model_cfg": QUICK, "preprocess_cfg": {"mean": MEAN, "std": DEVIATION}} | described
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_folder_of_open_clip(prefix: str, model: nn.Module, tmp_path: Path) -> None:
    """Activation and preprocessing are the folder's."""
    folder = write_open_clip(tmp_path / "tiny", model)
    made = prepare(f"{prefix}{folder}", tmp_path / "clip")
    check_same(model, made)
    assert (preprocessing(made)["mean"], preprocessing(made)["std"]) == (MEAN, DEVIATION)
    assert preprocessing(made)["resize_mode"] == "squash"
    with pytest.raises(UserError, match=r"preprocess_as is ViT-B-16/openai, but the folder .* to null"):
        prepare(f"{prefix}{folder}", tmp_path / "other", preprocess_as="ViT-B-16/openai")


@pytest.mark.parametrize("said", [{}, {"std": DEVIATION}, {"mean": MEAN, "interpolation": "bilinear"}])
def test_a_folder_that_says_it_in_part_is_asked_for_it(said: dict, model: nn.Module, tmp_path: Path) -> None:
    folder = write_open_clip(tmp_path / "tiny", model, preprocess_cfg=said)
    with pytest.raises(UserError, match=r"open_clip has no tag of tiny; set clip\.preprocess_as"):
        prepare(folder, tmp_path / "clip")


def test_a_folder_that_does_not_say_how_pictures_are_prepared(model: nn.Module, tmp_path: Path) -> None:
    folder = write_open_clip(tmp_path / "tiny", model)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": QUICK}))
    with pytest.raises(UserError, match=r"open_clip has no tag of tiny; set clip\.preprocess_as"):
        prepare(folder, tmp_path / "clip")
    made = prepare(folder, tmp_path / "clip", preprocess_as="ViT-B-16-SigLIP/webli")
    assert preprocessing(made)["mean"] == [0.5, 0.5, 0.5]


def test_weights_as_a_pickle(model: nn.Module, tmp_path: Path) -> None:
    folder = write_open_clip(tmp_path / "tiny", model)
    (folder / "open_clip_model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    check_same(model, prepare(folder, tmp_path / "clip"))


def hf_names(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights as transformers saves them: queries, keys, values apart, projections as linear layers."""
    weights = model.state_dict()
    renamed = {
        "logit_scale": weights["logit_scale"],
        "text_projection.weight": weights["text_projection"].T,
        "visual_projection.weight": weights["visual.proj"].T,
        "vision_model.embeddings.class_embedding": weights["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": weights["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": weights["visual.positional_embedding"],
        "vision_model.embeddings.position_ids": torch.arange(17)[None],
        "text_model.embeddings.token_embedding.weight": weights["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": weights["positional_embedding"],
    }
    for ours, theirs in (
        ("ln_final", "text_model.final_layer_norm"),
        ("visual.ln_pre", "vision_model.pre_layrnorm"),
        ("visual.ln_post", "vision_model.post_layernorm"),
    ):
        renamed |= {f"{theirs}.{kind}": weights[f"{ours}.{kind}"] for kind in ("weight", "bias")}
    for ours, theirs, layers in (("transformer", "text_model", 1), ("visual.transformer", "vision_model", 3)):
        for number in range(layers):
            renamed |= hf_block(weights, f"{ours}.resblocks.{number}", f"{theirs}.encoder.layers.{number}")
    return {name: value.contiguous() for name, value in renamed.items()}


def hf_block(weights: dict[str, torch.Tensor], ours: str, theirs: str) -> dict[str, torch.Tensor]:
    block = {}
    for kind in ("weight", "bias"):
        split = weights[f"{ours}.attn.in_proj_{kind}"].chunk(3)
        for letter, value in zip("qkv", split, strict=True):
            block[f"{theirs}.self_attn.{letter}_proj.{kind}"] = value
        for our, their in (
            ("attn.out_proj", "self_attn.out_proj"),
            ("ln_1", "layer_norm1"),
            ("ln_2", "layer_norm2"),
            ("mlp.c_fc", "mlp.fc1"),
            ("mlp.c_proj", "mlp.fc2"),
        ):
            block[f"{theirs}.{their}.{kind}"] = weights[f"{ours}.{our}.{kind}"]
    return block


def write_hf(folder: Path, model: nn.Module, **changes: Any) -> Path:
    folder.mkdir()
    config: dict[str, Any] = {
        "model_type": "clip",
        "vision_config": {"num_attention_heads": 2, "image_size": 32, "projection_dim": 16},
        "text_config": {"num_attention_heads": 2, "hidden_act": "quick_gelu"},
    }
    (folder / "config.json").write_text(json.dumps(config | changes))
    pictures = {"image_mean": MEAN, "image_std": DEVIATION, "resample": 3, "size": {"shortest_edge": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    save_file(hf_names(model), folder / "model.safetensors")
    return folder


def test_folder_of_transformers(model: nn.Module, tmp_path: Path) -> None:
    """Sizes are those of the weights; QuickGELU, as its configs leave out what is usual."""
    made = prepare(write_hf(tmp_path / "clip-tiny", model), tmp_path / "clip")
    check_same(model, made)
    found = preprocessing(made)
    assert (found["mean"], found["std"], found["interpolation"]) == (MEAN, DEVIATION, "bicubic")
    assert found["size"] == 32


def test_other_activation_of_transformers(model: nn.Module, tmp_path: Path) -> None:
    towers = {
        name: {"num_attention_heads": 2, "hidden_act": "gelu"} for name in ("vision_config", "text_config")
    }
    made = prepare(write_hf(tmp_path / "clip-tiny", model, **towers), tmp_path / "clip")
    plain = build_model(tiny_config(), "tiny").eval()
    plain.load_state_dict(model.state_dict())
    check_same(plain, made)


def _drop(name: str) -> Any:
    def change(folder: Path, weights: dict[str, torch.Tensor]) -> None:
        del weights[name]
        save_file(weights, folder / "model.safetensors")

    return change


def _broken(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    (folder / "model.safetensors").write_bytes(b"no weights")


def _without_preprocessing(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    (folder / "preprocessor_config.json").unlink()


def _other_config(**changes: Any) -> Any:
    def change(folder: Path, weights: dict[str, torch.Tensor]) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop("visual_projection.weight"), r"model\.safetensors has no 'visual_projection\.weight'"),
        (_drop("text_model.encoder.layers.0.self_attn.k_proj.bias"), "has no .*k_proj.bias"),
        (_drop("vision_model.post_layernorm.bias"), r"do not fit the config .*visual\.ln_post\.bias"),
        (_broken, r"model\.safetensors cannot be read"),
        (_without_preprocessing, r"preprocessor_config\.json does not exist"),
        (_other_config(model_type="siglip"), "model_type 'siglip'; only clip"),
        (_other_config(text_config={"hidden_act": "gelu"}), "quick_gelu for images, gelu for texts"),
        (
            _other_config(**{f"{each}_config": {"layer_norm_eps": 1e-6} for each in ("vision", "text")}),
            "layer_norm_eps 1e-06; open_clip has",
        ),
    ],
)
def test_a_folder_that_is_no_whole_clip(change: Any, message: str, model: nn.Module, tmp_path: Path) -> None:
    folder = write_hf(tmp_path / "clip-tiny", model)
    change(folder, hf_names(model))
    with pytest.raises(UserError, match=message):
        prepare(folder, tmp_path / "clip")
    assert not (tmp_path / "clip").exists()


def test_names_that_do_not_go_together(model: nn.Module, tmp_path: Path) -> None:
    folder = write_open_clip(tmp_path / "tiny", model)
    with pytest.raises(UserError, match=r"holds its own weights; set clip\.pretrained: folder"):
        prepare(folder, tmp_path / "clip", "openai")
    with pytest.raises(UserError, match=r"clip\.model is ViT-B-16, which is no folder"):
        prepare("ViT-B-16", tmp_path / "clip")
    with pytest.raises(UserError, match=r"there is no folder .*elsewhere"):
        prepare(f"local-dir:{tmp_path}/elsewhere", tmp_path / "clip")
    (folder / "open_clip_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"open_clip_config\.json has no model_cfg"):
        prepare(folder, tmp_path / "clip")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no weights \(one of open_clip_model\.safetensors"):
        prepare(folder, tmp_path / "clip")
