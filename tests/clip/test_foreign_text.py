"""Text towers and tokenizers of transformers, made here: words of any language, and no connection."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fsgr_model.clip.loading import Clip, load_clip
from fsgr_model.clip.model_building import build_model, build_tokenizer
from fsgr_model.clip.open_clip_api import import_transformers
from fsgr_model.clip.text_embeddings import embed_texts
from fsgr_model.clip.text_files import text_files_beside
from fsgr_model.clip.text_tower import TextTower
from fsgr_model.config.params import RuntimeParams
from fsgr_model.runtime.errors import UserError
from pipeline.clip import prepare_clip
from tests.worlds.clip import tiny_config
from tests.worlds.towers import SIGLIP_TEXT

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁dog", "▁a", "狗", "猫", "▁собака"]
WORDS = ["dog", "狗", "собака"]
SIZES = {"vocab_size": len(PIECES), "pad_token_id": 1}
BERT_SIZES = {
    **SIZES,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 20,
}
M2M_SIZES = {
    **SIZES,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "max_position_embeddings": 20,
}
T5_SIZES = {**SIZES, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
# Class of transformers, its sizes, and what open_clip's configs say of it (XLM-R, RoBERTa, NLLB, mT5).
TOWERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "XLMRobertaConfig": (BERT_SIZES, {"hf_pooler_type": "mean_pooler"}),
    "RobertaConfig": (BERT_SIZES, {"hf_pooler_type": "mean_pooler"}),
    "M2M100Config": (M2M_SIZES, {"hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"}),
    "MT5Config": (T5_SIZES, {"hf_pooler_type": "mean_pooler"}),
}


@pytest.fixture(autouse=True)
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def write_tokenizer(folder: Path) -> None:
    """A sentencepiece of XLM-R's kind, of ten pieces."""
    tokenizers = pytest.importorskip("tokenizers")
    pieces = [(piece, -float(number)) for number, piece in enumerate(PIECES)]
    made = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=3, byte_fallback=False))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    special = [("<s>", 0), ("</s>", 2)]
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=special
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    names |= {"cls_token": "<s>", "sep_token": "</s>"}
    transformers = import_transformers("this test")
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **names).save_pretrained(folder)


def write_folder(folder: Path, text: dict[str, Any], tower: str | None = None) -> Path:
    """A CLIP's own folder whose config names tokenizer and tower by a place on the hub."""
    write_tokenizer(folder)
    named = {"hf_tokenizer_name": "nobody/tokenizer", "context_length": 12}
    if tower:
        named["hf_model_name"] = "nobody/tower"
        getattr(import_transformers("this test"), tower)(**TOWERS[tower][0]).save_pretrained(folder)
    config = {**tiny_config(), "text_cfg": {**named, **text}, "custom_text": True}
    torch.manual_seed(3)
    model = build_model(text_files_beside(config, folder), "foreign")
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    described = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    return folder


def prepared(folder: Path, out: Path) -> Path:
    prepare_clip(
        str(folder),
        pretrained="folder",
        resize_mode="squash",
        preprocess_as=None,
        training=None,
        dataset=Path("no dataset is needed"),
        runtime=RuntimeParams(),
        out=out,
    )
    return out


def loaded(folder: Path) -> Clip:
    return load_clip(folder, torch.device("cpu"))


@pytest.mark.parametrize("tower", TOWERS)
def test_words_of_any_language_get_the_embeddings_of_their_tower(tower, tmp_path):
    """From the model's own folder, which is gone when `data/clip/` is read."""
    folder = write_folder(tmp_path / "model", TOWERS[tower][1], tower)
    config = text_files_beside(
        json.loads((folder / "open_clip_config.json").read_text())["model_cfg"], folder
    )
    model = build_model(config, "foreign").eval()
    prepared(folder, tmp_path / "clip")
    tokens = build_tokenizer(config)(WORDS)
    folder.rename(tmp_path / "elsewhere")
    clip = loaded(tmp_path / "clip")
    model.load_state_dict(clip.model.state_dict())
    assert tokens.shape == (3, 12) and torch.equal(clip.tokenizer(WORDS), tokens)
    with torch.inference_mode():
        expected_NE = model.encode_text(tokens, normalize=True)
    found_NE = embed_texts(clip, WORDS, ["{}"])
    torch.testing.assert_close(found_NE, expected_NE)
    assert (found_NE[0] - found_NE[1]).norm() > 1e-3
    assert "text" in clip.identity
    with pytest.raises(UserError, match=r"xe\.alignment needs a CLIP whose text tower is causal"):
        TextTower(clip, WORDS)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ({**SIGLIP_TEXT, "tokenizer_kwargs": {"clean": "canonicalize"}}, [0, 5, 2]),
        ({**SIGLIP_TEXT, "tokenizer_kwargs": {"strip_sep_token": True}}, [0, 5, 0]),
    ],
    ids=["SigLIP", "CLIPA"],
)
def test_a_tower_of_open_clip_with_a_tokenizer_of_transformers(text, pieces, tmp_path):
    text = {**text, "vocab_size": len(PIECES)}
    clip = loaded(prepared(write_folder(tmp_path / "model", text), tmp_path / "clip"))
    tokens = clip.tokenizer(WORDS)
    assert tokens[0, :3].tolist() == pieces
    with torch.inference_mode():
        expected_NE = clip.model.encode_text(tokens, normalize=True)
    torch.testing.assert_close(embed_texts(clip, WORDS, ["{}"]), expected_NE)


def test_a_place_of_the_folder_is_no_part_of_what_it_made(tmp_path):
    """Nor is it in the description, so that two machines agree."""
    first = write_folder(tmp_path / "one" / "model", TOWERS["XLMRobertaConfig"][1], "XLMRobertaConfig")
    second = tmp_path / "two" / "model"
    second.parent.mkdir()
    identities = []
    for place in (first, second):
        identities.append(loaded(prepared(place, tmp_path / "clip")).identity)
        assert str(tmp_path) not in (tmp_path / "clip" / "clip.json").read_text()
        if place == first:
            first.rename(second)
    assert identities[0] == identities[1]


def test_changed_text_files_are_refused(tmp_path):
    prepared(
        write_folder(tmp_path / "model", TOWERS["XLMRobertaConfig"][1], "XLMRobertaConfig"), tmp_path / "clip"
    )
    (tmp_path / "clip" / "text" / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"text/tokenizer\.json is not the file .* dvc repro -f clip"):
        loaded(tmp_path / "clip")


@pytest.mark.parametrize("key", ["hf_tokenizer_name", "hf_model_name"])
def test_files_that_cannot_be_had_are_named(key, tmp_path):
    folder = write_folder(tmp_path / "model", TOWERS["XLMRobertaConfig"][1], "XLMRobertaConfig")
    (folder / ("tokenizer_config.json" if key == "hf_tokenizer_name" else "config.json")).unlink()
    with pytest.raises(
        UserError, match=rf"its {key} 'nobody/.*' is no folder, and cannot be fetched .* connect to the"
    ):
        prepared(folder, tmp_path / "clip")


@pytest.mark.parametrize("tower", TOWERS)
def test_a_tokenizer_without_its_vocabulary_is_refused(tower, tmp_path):
    """transformers makes one that knows no word, without a warning."""
    folder = write_folder(tmp_path / "model", TOWERS[tower][1], tower)
    (folder / "tokenizer.json").unlink()
    described = json.loads((folder / "tokenizer_config.json").read_text())
    names = {"M2M100Config": "NllbTokenizer", "MT5Config": "T5Tokenizer"}
    described["tokenizer_class"] = names.get(tower, tower.replace("Config", "Tokenizer"))
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    with pytest.raises(
        UserError, match=r"its hf_tokenizer_name .* cannot be fetched .*vocabulary is missing"
    ):
        prepared(folder, tmp_path / "clip")
    assert not (tmp_path / "clip").exists()


@pytest.mark.parametrize(
    "error",
    [
        ImportError("SiglipTokenizer requires the SentencePiece library but it was not found"),
        ValueError(
            "`tiktoken` is required to read a `tiktoken` file. Install it with `pip install tiktoken`."
        ),
    ],
    ids=["slow", "fast"],
)
def test_a_vocabulary_of_sentencepiece_without_its_package(error, tmp_path, monkeypatch):
    """What transformers 5.17 says of a spiece.model, by the class of the tokenizer."""

    def without_package(*_: Any, **__: Any) -> None:
        raise error

    folder = write_folder(tmp_path / "model", SIGLIP_TEXT | {"vocab_size": len(PIECES)})
    transformers = import_transformers("this test")
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", without_package)
    with pytest.raises(
        UserError, match=r"vocabulary of sentencepiece, .* pip install \"transformers\[sentencepiece\]>=5,<6"
    ):
        prepared(folder, tmp_path / "clip")


def test_words_of_a_vocabulary_of_sentencepiece(tmp_path):
    """SigLIP's own files have no tokenizer.json."""
    sentencepiece = pytest.importorskip("sentencepiece")
    pytest.importorskip("google.protobuf")
    texts, trained = tmp_path / "texts.txt", tmp_path / "trained"
    texts.write_text("a dog on a sofa\n\u72d7 and \u732b\nno dog and a cat\n" * 50, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(texts),
        model_prefix=str(trained),
        vocab_size=30,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
    )
    folder = write_folder(tmp_path / "model", SIGLIP_TEXT | {"vocab_size": 30, "context_length": 12})
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "SiglipTokenizer"}))
    trained.with_suffix(".model").rename(folder / "spiece.model")
    own = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    clip = loaded(prepared(folder, tmp_path / "clip"))
    for text in ("a dog", "\u72d7 and a cat"):
        expected = [*own.encode(text), 1]
        assert clip.tokenizer([text])[0, : len(expected)].tolist() == expected


def test_without_transformers_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "model", TOWERS["XLMRobertaConfig"][1], "XLMRobertaConfig")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(
        UserError, match=r"text tower of clip\.model .* pip install \"transformers\[sentencepiece\]>=5,<6\""
    ):
        prepared(folder, tmp_path / "clip")
    assert not (tmp_path / "clip").exists()
