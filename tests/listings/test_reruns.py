"""The table of what runs again, and the boundaries that it has to show."""

import pytest

from tests.listings import reruns
from tests.listings.reruns import stages_behind


def test_the_page_is_that_of_dvc_yaml():
    assert reruns.PAGE.read_text(encoding="utf-8") == reruns.page(), "run python -m tests.listings.reruns"


@pytest.mark.parametrize(
    ("module", "spared"),
    [
        # A prompt template: the maker of the codebook, and no reader of it.
        ("clip/text_embeddings.py", {"labels", "train_xe", "captions"}),
        ("clip/concepts.py", {"labels", "train_xe", "train_scst", "captions", "vocab"}),
        # The reward: neither the word list nor anything before it. CIDEr-D also chooses among samples.
        ("training/scst.py", {"clip", "vocab", "train_xe", "captions"}),
        ("scoring/cider_d.py", {"vocab"}),
        # Dropout changes no feature and no caption.
        ("kernels/dropout.py", {"features", "labels", "codebook", "vocab", "captions", "evaluate"}),
        ("kernels/onednn_layers.py", {"codebook", "vocab", "labels"}),
        # Wishes of captions: no training.
        ("inference/beam_search.py", {"features", "labels", "vocab", "codebook", "train_xe", "train_scst"}),
        ("inference/rules.py", {"features", "labels", "vocab", "codebook", "train_xe", "train_scst"}),
        ("inference/decoding.py", {"features", "labels", "vocab", "codebook"}),
        # The beam search trains nothing: validation is greedy, and the reward is of samples.
        ("inference/beam_search.py", {"train_xe", "train_scst", "features", "evaluate"}),
        ("runtime/row_store.py", set(reruns.stages(reruns.DVC.read_text()))),
        ("config/params.py", set(reruns.stages(reruns.DVC.read_text()))),
    ],
)
def test_a_change_spares_the_stages_whose_bytes_it_cannot_change(module, spared):
    assert not spared & set(stages_behind(f"fsgr_model/{module}"))
