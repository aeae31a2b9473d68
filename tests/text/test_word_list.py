"""The stage `vocab` with a small random CLIP."""

import os
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
import torch

from fsgr_model.clip.loading import load_clip, save_clip
from fsgr_model.clip.model_building import build_model, default_preprocessing
from fsgr_model.config.params import VocabParams
from fsgr_model.datasets.normal_form import CaptionRecord, Dataset, ImageRecord, write_dataset
from fsgr_model.runtime.artifacts import load_json, save_json
from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.document_frequencies import DocumentFrequencies
from fsgr_model.text.ptb_tokenizer import ptb_tokenize
from fsgr_model.text.vocabulary import SPECIALS, Vocabulary, load_word_embeddings
from pipeline.vocab import coverage, make_word_list

REAL = "FSGR_COCO_DATA"
CONFIG = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
TOKENS = {
    1: [["a", "dog"], ["a", "dog", "runs"]],
    2: [["a", "cat"]],
    3: [["a", "zebra"]],
    4: [["a", "zebra"]],
}
SPLIT_OF = {1: "train", 2: "train", 3: "val", 4: "test"}
TRAIN = VocabParams(min_count=1, words="train")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    images = [ImageRecord(number, split, "none.png", 8, 8, 1, "") for number, split in SPLIT_OF.items()]
    captions = [
        CaptionRecord(number, 10 * number + place, " ".join(tokens), tokens)
        for number, of_image in TOKENS.items()
        for place, tokens in enumerate(of_image)
    ]
    write_dataset(tmp_path / "dataset", Dataset(images, captions, {"categories": [], "annotations": []}, {}))
    torch.manual_seed(0)
    model = build_model(CONFIG, "tiny")
    save_clip(
        tmp_path / "clip", model, "tiny", CONFIG, preprocessing=default_preprocessing(CONFIG, {}), origin={}
    )
    return tmp_path


def test_words_vectors_and_frequencies_of_the_training_split(data: Path) -> None:
    make_word_list(data / "dataset", clip_folder=data / "clip", folder=data / "vocab", params=TRAIN)
    vocabulary = Vocabulary.load(data / "vocab" / "words.json")
    assert vocabulary.words == [*SPECIALS, "a", "dog", "cat", "runs"]
    word_VE = load_word_embeddings(data / "vocab" / "embeddings.safetensors", vocabulary)
    assert (word_VE.shape, word_VE.dtype) == ((8, 8), torch.float32)
    torch.testing.assert_close(word_VE.norm(dim=1), torch.ones(8))
    frequencies = DocumentFrequencies.load(data / "vocab" / "document_frequencies.safetensors", vocabulary)
    assert (frequencies.num_images, frequencies.num_words) == (2, 8)


def test_the_list_says_what_divided_its_words(data: Path) -> None:
    make_word_list(
        data / "dataset",
        clip_folder=data / "clip",
        folder=data / "vocab",
        params=TRAIN,
        segmenter="characters",
    )
    vocabulary = Vocabulary.load(data / "vocab" / "words.json")
    assert (vocabulary.segmenter, vocabulary.words[4:6]) == ("characters", ["a", "dog"])
    assert vocabulary.decode([4, 5]) == "adog"
    DocumentFrequencies.load(data / "vocab" / "document_frequencies.safetensors", vocabulary)


def test_words_of_the_validation_captions_count_where_they_are_asked_for(data: Path) -> None:
    """The word list grows by theirs; document frequencies stay those of training, and test adds nothing."""
    both = VocabParams(min_count=1, words="train_val")
    make_word_list(data / "dataset", clip_folder=data / "clip", folder=data / "vocab", params=both)
    vocabulary = Vocabulary.load(data / "vocab" / "words.json")
    assert vocabulary.words == [*SPECIALS, "a", "dog", "cat", "runs", "zebra"]
    frequencies = DocumentFrequencies.load(data / "vocab" / "document_frequencies.safetensors", vocabulary)
    assert (frequencies.num_images, frequencies.num_words) == (2, 9)
    twice = VocabParams(min_count=2, words="train_val")
    make_word_list(data / "dataset", clip_folder=data / "clip", folder=data / "twice", params=twice)
    assert Vocabulary.load(data / "twice" / "words.json").words == [*SPECIALS, "a", "dog"]


def test_an_imported_list_keeps_its_ids_and_says_what_it_lacks(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SPECIALS, "zebra", " ", "dog", "a", "zoo"]
    save_json(tmp_path / "list.json", words)
    params = VocabParams(min_count=1, words=str(tmp_path / "list.json"))
    make_word_list(data / "dataset", clip_folder=data / "clip", folder=data / "vocab", params=params)
    vocabulary = Vocabulary.load(data / "vocab" / "words.json")
    assert vocabulary.words == words
    assert len(load_word_embeddings(data / "vocab" / "embeddings.safetensors", vocabulary)) == 9
    report = load_json(data / "vocab" / "report.json")
    assert report["train"] == {
        "tokens": 7,
        "known": 5,
        "share_known": 5 / 7,
        "words_never_met": 3,
        "unknown_words": 2,
        "commonest_unknown": [["cat", 1], ["runs", 1]],
    }
    assert (report["val"]["tokens"], report["val"]["known"]) == (2, 2)
    said = capsys.readouterr().out
    assert "known of train: 71.43% of 7 tokens; commonest unknown: cat (1), runs (1)" in said


def test_the_list_of_another_toolkit_is_told_as_such(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_json(tmp_path / "cocotalk.json", {"ix_to_word": {"2": "dog", "1": "zoo", "3": "UNK"}})
    params = VocabParams(min_count=1, words=str(tmp_path / "cocotalk.json"))
    make_word_list(data / "dataset", clip_folder=data / "clip", folder=data / "vocab", params=params)
    assert Vocabulary.load(data / "vocab" / "words.json").words == [*SPECIALS, "zoo", "dog"]
    told = load_json(data / "vocab" / "report.json")["imported"]
    assert told.startswith("3 words, in their order under new ids from 4 on") and told.endswith(": UNK")
    assert told in capsys.readouterr().out


def test_a_list_that_is_not_there(data: Path, tmp_path: Path) -> None:
    params = VocabParams(min_count=1, words=str(tmp_path / "list.json"))
    with pytest.raises(UserError, match=r"list\.json does not exist"):
        make_word_list(data / "dataset", clip_folder=data / "clip", folder=data / "vocab", params=params)
    assert not (data / "vocab").exists()


@pytest.mark.skipif(REAL not in os.environ, reason=f"{REAL} names no folder of COCO captions and a word list")
def test_the_published_list_and_the_captions_of_val2017() -> None:
    """Every id is kept, and the list knows 99.4% of the tokens."""
    folder = Path(os.environ[REAL])
    vocabulary = Vocabulary.load(folder / "fsgr_vocab_10201.json")
    assert vocabulary.words == load_json(folder / "fsgr_vocab_10201.json")["itos"]
    assert len(vocabulary) == 10_201
    captions = load_json(folder / "captions_val2017.json")["annotations"]
    found = coverage(vocabulary, Counter(chain.from_iterable(ptb_tokenize(c["caption"]) for c in captions)))
    assert (found["tokens"], found["known"]) == (261_411, 259_966)


def test_a_vector_is_what_clip_says_of_the_word(data: Path) -> None:
    make_word_list(data / "dataset", clip_folder=data / "clip", folder=data / "vocab", params=TRAIN)
    vocabulary = Vocabulary.load(data / "vocab" / "words.json")
    word_VE = load_word_embeddings(data / "vocab" / "embeddings.safetensors", vocabulary)
    clip = load_clip(data / "clip", torch.device("cpu"))
    with torch.no_grad():
        dog_E = clip.model.encode_text(clip.tokenizer(["dog"]), normalize=True)[0]
    torch.testing.assert_close(word_VE[vocabulary.words.index("dog")], dog_E)
