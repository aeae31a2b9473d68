from pathlib import Path

import pytest
import torch

from fsgr_model.clip.codebook import load_codebook
from fsgr_model.clip.concepts import dataset_concepts, read_concepts
from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.text_embeddings import embed_texts, templates
from fsgr_model.config.params import CodebookParams
from fsgr_model.datasets.demo.world_file import load_world
from fsgr_model.datasets.normal_form import Dataset, write_dataset
from fsgr_model.network.quantiser import SemanticQuantiser
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.tensor_file import save_tensors
from pipeline.codebook import make_codebook


def make(concepts, dataset, clip_folder, tmp_path):
    params = CodebookParams(concepts=str(concepts), templates="scene")
    make_codebook(params, dataset, clip_folder=clip_folder, folder=tmp_path / "codebook")
    return load_codebook(tmp_path / "codebook")


def test_concepts_of_the_dataset_in_the_order_of_their_ids(dataset, clip_folder, tmp_path):
    codebook = make("dataset", dataset, clip_folder, tmp_path)
    assert codebook.names == ["dog", "cat", "grass"]
    clip = load_clip(clip_folder, torch.device("cpu"))
    assert torch.equal(codebook.embeddings_KE, embed_texts(clip, codebook.names, templates("scene")))
    assert codebook.identity["weights"] == clip.identity["weights"]


def test_concepts_of_a_file(dataset, clip_folder, tmp_path):
    (tmp_path / "names.txt").write_text("cat\n night sky \ncafé\n", encoding="utf-8")
    codebook = make(tmp_path / "names.txt", dataset, clip_folder, tmp_path)
    assert codebook.names == ["cat", "night sky", "café"]
    torch.testing.assert_close(codebook.embeddings_KE.norm(dim=1), torch.ones(3))


def test_a_list_of_five_thousand_concepts(dataset, clip_folder, tmp_path):
    """The user's own list, from the file to a concept for every patch and back to its name."""
    names = [f"thing {number}" for number in range(5000)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    params = CodebookParams(concepts=str(tmp_path / "names.txt"), templates="simple")
    make_codebook(params, dataset, clip_folder=clip_folder, folder=tmp_path / "codebook")
    codebook = load_codebook(tmp_path / "codebook")
    assert codebook.names == names and codebook.embeddings_KE.shape == (5000, 16)
    meant = [4999, 17, 300]
    meant_BE = codebook.embeddings_KE[meant]
    quantiser = SemanticQuantiser(codebook.embeddings_KE, 20, inverse_frequency=False).eval()
    quantised = quantiser(meant_BE, meant_BE[:, None].expand(-1, 9, -1))
    assert [[codebook.names[k] for k in row] for row in quantised.concept_BG.tolist()] == [
        [names[k]] * 9 for k in meant
    ]
    torch.testing.assert_close(quantised.text_BGE[:, 4], meant_BE)


def test_a_list_with_the_line_ends_of_windows(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"cat\r\nnight sky\r\n")
    assert read_concepts(tmp_path / "names.txt") == ["cat", "night sky"]


def test_a_list_from_an_editor_that_marks_utf8(tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\n", encoding="utf-8-sig")
    assert read_concepts(tmp_path / "names.txt") == ["cat", "dog"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"cat\n\ndog\n", "number 2 is empty"),
        (b"cat\ndog\ncat\n", r"\['cat'\] occur more than once"),
        (b"", "0 concepts"),
        (b"cat\rdog\r", r"line 1 holds '\\r', which ends a line .* \(LF or CRLF\)"),
        ("cat\ntree\u2028dog\n".encode(), r"line 2 holds '\\u2028', which ends a line"),
        ("cat\x85dog\n".encode(), r"line 1 holds '\\x85'"),
        (b"cat\x0c\ndog\n", r"line 1 holds '\\x0c'"),
        (b"cat\x0bdog\n", r"line 1 holds '\\x0b'"),
        (b"cat\r\r\ndog\r\r\n", r"line 1 holds '\\r'"),
        (b"caf\xe9\n", r"not UTF-8 text \(byte 3\)"),
        (None, "does not exist"),
    ],
)
def test_wrong_files(text, message, tmp_path):
    path = tmp_path / "names.txt"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(UserError, match=rf"codebook.concepts: .*{message}"):
        read_concepts(path)


def test_dataset_without_categories(tmp_path):
    write_dataset(tmp_path, Dataset([], [], {"categories": [], "annotations": []}, {}))
    with pytest.raises(UserError, match=r"codebook.concepts is dataset, but .*everyday.txt"):
        dataset_concepts(tmp_path)


def test_names_and_embeddings_must_agree(dataset, clip_folder, tmp_path):
    make("dataset", dataset, clip_folder, tmp_path)
    save_tensors(
        tmp_path / "codebook" / "codebook.safetensors", {"embeddings": torch.zeros(5, 16)}, {"described": "0"}
    )
    with pytest.raises(UserError, match=r"has 5 rows for other concepts than .*codebook\.json names"):
        load_codebook(tmp_path / "codebook")


@pytest.mark.parametrize(("name", "least", "most"), [("coco80", 80, 80), ("everyday", 250, 600)])
def test_concept_files_of_the_project(name, least, most):
    assert least <= len(read_concepts(Path(f"data/concepts/{name}.txt"))) <= most


def test_looks_of_the_demo_are_those_of_its_world():
    world = load_world(Path("data/demo/world.yaml"))
    looks = [f"{colour} {name}" for name, kind in world.objects.items() for colour in kind.colours]
    assert read_concepts(Path("data/concepts/demo_looks.txt")) == [*looks, *world.backgrounds]
