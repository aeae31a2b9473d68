"""Stage vocab: word list, CLIP word embeddings, document frequencies of the training captions."""

from collections import Counter
from pathlib import Path
from typing import Any

from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.text_embeddings import embed_texts, templates
from fsgr_model.config.params import VocabParams, load_params
from fsgr_model.config.text_params import Segmenter
from fsgr_model.datasets.normal_form import Split, read_tokens, tokens_of
from fsgr_model.runtime.artifacts import save_json, whole_folder
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import run_command
from fsgr_model.scoring.document_frequencies import DocumentFrequencies
from fsgr_model.text.imported_words import import_words
from fsgr_model.text.vocabulary import SPECIALS, Vocabulary, build_vocabulary, save_word_embeddings

# Unknown words that are listed.
SHOWN = 50


def make_word_list(
    dataset: Path, *, clip_folder: Path, folder: Path, params: VocabParams, segmenter: Segmenter = "ptb"
) -> None:
    """Words of the captions or of the file that `params.words` names, and their embeddings.

    `segmenter` is what divided the captions. Document frequencies are those of the training captions,
    whatever counts. `report.json` says how much of the training and validation captions the words cover. A
    special word's vector is that of its name without the angle brackets.

    Raises:
        UserError: `params.words` names no word list, or no word is frequent enough.
    """
    tokens = read_tokens(dataset)
    counted_splits: tuple[Split, Split] = ("train", "val")
    captions = {split: tokens_of(tokens, split) for split in counted_splits}
    counts = {split: captions[split].counts() for split in counted_splits}
    counted = counts["train"] + counts["val"] if params.words == "train_val" else counts["train"]
    vocabulary, imported = (
        import_words(Path(params.file), segmenter)
        if params.file
        else (build_vocabulary(counted, params.min_count, segmenter), "")
    )
    report: dict[str, Any] = {
        "words": len(vocabulary),
        "from": params.file or f"captions of {params.words}, words that occur {params.min_count} times",
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


def coverage(vocabulary: Vocabulary, counts: Counter[str]) -> dict[str, Any]:
    """Of the tokens of a text, given with their counts: how many there are, those that the list has (and
    their share), its words that never occur, and the unknown tokens, of which the 50 most frequent are listed
    with their counts.
    """
    unknown = Counter({token: count for token, count in counts.items() if token not in vocabulary})
    total, known = counts.total(), counts.total() - unknown.total()
    return {
        "tokens": total,
        "known": known,
        "share_known": known / max(total, 1),
        "words_never_met": sum(word not in counts for word in vocabulary.words[len(SPECIALS) :]),
        "unknown_words": len(unknown),
        "commonest_unknown": sorted(unknown.items(), key=lambda pair: (-pair[1], pair[0]))[:SHOWN],
    }


def described(name: str, found: dict[str, Any]) -> str:
    """`known of train: 99.45% of 261411 tokens; commonest unknown: close-up (18), st. (11)`"""
    text = f"known of {name}: {found['share_known']:.2%} of {found['tokens']} tokens"
    few = ", ".join(f"{word} ({count})" for word, count in found["commonest_unknown"][:8])
    return f"{text}; commonest unknown: {few}" if few else text


def main() -> None:
    params = load_params()
    make_word_list(
        Path("data/dataset"),
        clip_folder=Path("data/clip"),
        folder=Path("data/vocab"),
        params=params.vocab,
        segmenter=params.text.tokenizer,
    )


if __name__ == "__main__":
    run_command(main)
