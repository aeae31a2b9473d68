"""Scripts whose words no space divides."""

import unicodedata
from functools import lru_cache

# Those of Unicode's line breaking classes ID and SA (UAX 14), as the names of their letters begin.
WITHOUT_SPACES = {
    **dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "BOPOMOFO"), "Chinese or Japanese"),
    **{name.upper(): name for name in ("Thai", "Lao", "Khmer", "Tai Le", "New Tai Lue", "Tai Tham")},
    **{name.upper(): name for name in ("Tai Viet", "Ahom", "Javanese", "Balinese")},
    "MYANMAR": "Burmese",
    "YI SYLLABLE": "Yi",
}


@lru_cache(maxsize=2**16)
def script_without_spaces(character: str) -> str | None:
    """The script of a letter or of a mark on one, if it belongs to one without spaces."""
    if character.isascii() or unicodedata.category(character)[0] not in "LM":
        return None
    name = unicodedata.name(character, "")
    return next((script for start, script in WITHOUT_SPACES.items() if name.startswith(start)), None)
