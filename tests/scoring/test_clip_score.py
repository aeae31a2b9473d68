"""CLIPScore from embeddings worked out by hand, and from the cache of real pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.token_cache import CacheDtype
from fsgr_model.config.params import RuntimeParams
from fsgr_model.datasets.normal_form import read_images
from fsgr_model.runtime.row_store import RowStore
from fsgr_model.scoring import clip_score
from fsgr_model.scoring.clip_score import ClipScorer, make_clip_scorer
from pipeline.features import extract_features

VECTORS = {
    "a cat": (1.0, 0.0),
    "a dog": (0.6, 0.8),
    "a fish": (-1.0, 0.0),
}


def test_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    def embedded(clip, texts, prompts):
        assert prompts == ["A photo depicts {}"]
        return torch.tensor([VECTORS[text] for text in texts])

    monkeypatch.setattr(clip_score, "embed_texts", embedded)
    images = {7: torch.tensor([1.0, 0.0]), 3: torch.tensor([0.0, 1.0])}
    scorer = ClipScorer(None, images, {7: ["a cat", "a fish"], 3: ["a cat"]})
    found = scorer.score({7: "a dog", 3: "a fish"})
    # Image 3: the caption is at right angles to the image and opposite to its reference. Image 7: 2.5 x 0.6.
    np.testing.assert_allclose(found["CLIPScore"], [0, 1.5])
    np.testing.assert_allclose(found["RefCLIPScore"], [0, 2 * 1.5 * 0.6 / 2.1], rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("cache_dtype", "error"), [("float16", 2e-3), ("int8", 3e-2)])
def test_the_cache_gives_what_the_whole_clip_gives(
    dataset: Path, clip_folder: Path, tmp_path: Path, monkeypatch, cache_dtype: CacheDtype, error: float
):
    """Against open_clip's own image and text embeddings of the pictures."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    data = dataset.parent
    extract_features(
        dataset,
        clip_folder=clip_folder,
        cut=2,
        cache_dtype=cache_dtype,
        runtime=RuntimeParams(workers=0),
        out=data / "features",
    )
    records = read_images(dataset, "test")
    results = {record.image_id: f"a picture of {record.image_id}" for record in records}
    references = {record.image_id: ["noise", "a grey wall"] for record in records}
    clip = load_clip(clip_folder, torch.device("cpu"))
    store = RowStore(data / "features" / "test.h5", clip.identity)
    found = make_clip_scorer(clip, store, references).score(results)
    for row, record in enumerate(records):
        with Image.open(record.path) as picture:
            image_1E = clip.model.encode_image(clip.preprocess(picture)[None], normalize=True)
        text_1E = clip.model.encode_text(
            clip.tokenizer([f"A photo depicts {results[record.image_id]}"]), normalize=True
        )
        cosine = float((image_1E * text_1E).sum())
        assert found["CLIPScore"][row] == pytest.approx(2.5 * max(cosine, 0), abs=error)
