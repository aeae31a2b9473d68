"""The stage `vocab` with a small random CLIP."""

from pathlib import Path

import pytest
import torch

from fsgr_model.clip.loading import build_model, default_preprocessing, load_clip, save_clip
from fsgr_model.datasets.normal_form import CaptionRecord, Dataset, ImageRecord, write_dataset
from fsgr_model.params import VocabParams
from fsgr_model.scoring.cider_d import DocumentFrequencies
from fsgr_model.text.vocabulary import SPECIALS, Vocabulary, load_word_embeddings
from fsgr_model.text.word_list import make_word_list

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
    save_clip(tmp_path / "clip", model, "tiny", CONFIG, default_preprocessing(CONFIG, {}), {})
    return tmp_path


def test_words_vectors_and_frequencies_of_the_training_split(data: Path) -> None:
    make_word_list(data / "dataset", data / "clip", data / "vocab", VocabParams(min_count=1))
    vocabulary = Vocabulary.load(data / "vocab" / "words.json")
    assert vocabulary.words == [*SPECIALS, "a", "dog", "cat", "runs"]
    word_VE = load_word_embeddings(data / "vocab" / "embeddings.safetensors", vocabulary)
    assert (word_VE.shape, word_VE.dtype) == ((8, 8), torch.float32)
    torch.testing.assert_close(word_VE.norm(dim=1), torch.ones(8))
    frequencies = DocumentFrequencies.load(data / "vocab" / "document_frequencies.safetensors", vocabulary)
    assert (frequencies.num_images, frequencies.num_words) == (2, 8)


def test_a_vector_is_what_clip_says_of_the_word(data: Path) -> None:
    make_word_list(data / "dataset", data / "clip", data / "vocab", VocabParams(min_count=1))
    vocabulary = Vocabulary.load(data / "vocab" / "words.json")
    word_VE = load_word_embeddings(data / "vocab" / "embeddings.safetensors", vocabulary)
    clip = load_clip(data / "clip", torch.device("cpu"))
    with torch.no_grad():
        dog_E = clip.model.encode_text(clip.tokenizer(["dog"]), normalize=True)[0]
    torch.testing.assert_close(word_VE[vocabulary.words.index("dog")], dog_E)
