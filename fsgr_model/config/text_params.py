"""The section `text` of params.yaml: how captions are divided into words."""

from typing import Literal

from pydantic import Field

from fsgr_model.config.section import Section

Segmenter = Literal["ptb", "characters", "jieba", "words"]


class TextParams(Section):
    """What a word is, for the training captions, the word list, the rewards and the scores alike."""

    tokenizer: Segmenter = Field(
        description="ptb: English and what else divides its words by spaces, as the COCO metrics do; "
        "characters: each letter; jieba: Chinese words (extra chinese); words: the words of any language by "
        "ICU (extra words); docs/howto/languages.md",
    )
