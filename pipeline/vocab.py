"""Stage vocab: word list, CLIP word embeddings, document frequencies of the training captions."""

from pathlib import Path
from typing import Any

from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.text_embeddings import embed_texts, templates
from fsgr_model.config.params import VocabParams, load_params
from fsgr_model.datasets.normal_form import Split, read_tokens, tokens_of
from fsgr_model.runtime.artifacts import save_json, whole_folder
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import run_command
from fsgr_model.scoring.document_frequencies import DocumentFrequencies
from fsgr_model.text.coverage import coverage, described
from fsgr_model.text.imported_words import import_words
from fsgr_model.text.vocabulary import SPECIALS, build_vocabulary, save_word_embeddings


def make_word_list(dataset: Path, *, clip_folder: Path, folder: Path, params: VocabParams) -> None:
    """Words of the captions that `params.count_in` names, or those of `params.file`, and their embeddings.

    Document frequencies are those of the training captions, whatever counts. `report.json` says how much of
    the training and validation captions the words cover. A special word's vector is that of its name
    without the angle brackets.

    Raises:
        UserError: `params.file` is not a word list, or no word is frequent enough.
    """
    tokens = read_tokens(dataset)
    counted_splits: tuple[Split, Split] = ("train", "val")
    captions = {split: tokens_of(tokens, split) for split in counted_splits}
    counts = {split: captions[split].counts() for split in counted_splits}
    counted = counts["train"] + counts["val"] if params.count_in == "train_val" else counts["train"]
    vocabulary, imported = (
        import_words(Path(params.file)) if params.file else (build_vocabulary(counted, params.min_count), "")
    )
    report: dict[str, Any] = {
        "words": len(vocabulary),
        "from": params.file or f"captions of {params.count_in}, words that occur {params.min_count} times",
        **({"imported": imported} if imported else {}),
        **{split: coverage(vocabulary, counts[split]) for split in counted_splits},
    }
    clip = load_clip(clip_folder, pick_device())
    texts = [word.strip("<>") if word in SPECIALS else word for word in vocabulary.words]
    embeddings_VE = embed_texts(clip, texts, templates("word"))
    frequencies = DocumentFrequencies.of_table(vocabulary.encode_table(captions["train"]), len(vocabulary))
    with whole_folder(folder) as partial:
        vocabulary.save(partial / "words.json")
        save_json(partial / "report.json", report)
        save_word_embeddings(partial / "embeddings.safetensors", vocabulary, embeddings_VE)
        frequencies.save(partial / "document_frequencies.safetensors", vocabulary)
    images = frequencies.num_images
    print(f"vocab: {len(vocabulary)} words, {len(frequencies.keys)} n-grams of {images} images")
    if imported:
        print(f"vocab: {params.file}: {imported}")
    for split in counted_splits:
        print(f"vocab: {described(split, report[split])}")


def main() -> None:
    params = load_params()
    make_word_list(
        Path("data/dataset"), clip_folder=Path("data/clip"), folder=Path("data/vocab"), params=params.vocab
    )


if __name__ == "__main__":
    run_command(main)
