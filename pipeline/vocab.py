"""Stage vocab: word list, CLIP word embeddings, document frequencies of the training captions."""

from pathlib import Path

from fsgr_model.errors import run_command
from fsgr_model.params import load_params
from fsgr_model.text.word_list import make_word_list


def main() -> None:
    params = load_params()
    make_word_list(Path("data/dataset"), Path("data/clip"), Path("data/vocab"), params.vocab)


if __name__ == "__main__":
    run_command(main)
