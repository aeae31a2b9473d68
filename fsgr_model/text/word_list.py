"""Makes `data/vocab/`: the word list, its CLIP embeddings and CIDEr-D's document frequencies."""

from pathlib import Path

from fsgr_model.artifacts import whole_folder
from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.text_embeddings import embed_texts, templates
from fsgr_model.datasets.normal_form import read_captions, read_images
from fsgr_model.device import pick_device
from fsgr_model.params import VocabParams
from fsgr_model.scoring.cider_d import DocumentFrequencies
from fsgr_model.text.vocabulary import SPECIALS, build_vocabulary, save_word_embeddings


def make_word_list(dataset: Path, clip_folder: Path, folder: Path, params: VocabParams) -> None:
    """Words, embeddings and document frequencies of the training captions; no other split is looked at.

    A special word's vector is that of its name without the angle brackets.
    """
    captions = read_captions(dataset)
    training = [
        [caption.tokens for caption in captions[image.image_id]] for image in read_images(dataset, "train")
    ]
    vocabulary = build_vocabulary((tokens for of_image in training for tokens in of_image), params.min_count)
    clip = load_clip(clip_folder, pick_device())
    texts = [word.strip("<>") if word in SPECIALS else word for word in vocabulary.words]
    embeddings_VE = embed_texts(clip, texts, templates("word"))
    frequencies = DocumentFrequencies.build(
        [[vocabulary.encode(tokens, len(tokens)) for tokens in of_image] for of_image in training],
        len(vocabulary),
    )
    with whole_folder(folder) as partial:
        vocabulary.save(partial / "words.json")
        save_word_embeddings(partial / "embeddings.safetensors", vocabulary, embeddings_VE)
        frequencies.save(partial / "document_frequencies.safetensors", vocabulary)
    print(f"vocab: {len(vocabulary)} words, {len(frequencies.keys)} n-grams of {len(training)} images")
