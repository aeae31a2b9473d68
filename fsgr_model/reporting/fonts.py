"""Fonts that have the characters of a text: Pillow's own, or else one of this machine.

Aileron, which is part of Pillow, has Latin letters alone. For others fontconfig is asked (Linux; macOS where
it is installed), then the fonts that Windows and macOS bring are tried by name. Nothing is drawn as boxes, or
in the wrong order, without a line that says so (`flaws`).
"""

import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from PIL import ImageFont, features

# Each has the characters of many scripts, or of one that the ones before lack.
BROUGHT = (
    *("msyh.ttc", "meiryo.ttc", "malgun.ttf", "segoeui.ttf", "LeelawUI.ttf", "Nirmala.ttc"),
    *("Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf"),
)
NO_CHARACTER = "\uffff"  # Unicode keeps this code free, so that every font draws its sign for what it lacks
SAMPLE_SIZE = 24
SHOWN = 12


@dataclass(frozen=True)
class Source:
    """A font file, as Pillow opens it, and the number of the font in it; no file: Pillow's own Aileron."""

    file: str = ""
    index: int = 0


AILERON = Source()


def font(size: int, text: str = "") -> ImageFont.FreeTypeFont:
    """Aileron at `size` pixels, the same letters on every machine, if it has the characters of `text`.

    Otherwise the font of this machine that lacks the fewest.
    """
    return face(source_for(frozenset(text)), size)


def flaws(texts: Iterable[str]) -> list[str]:
    """What will not be drawn right on this machine, and what to install; a line each."""
    texts = list(texts)
    lacking = sorted({each for text in texts for each in lacks(source_for(frozenset(text)), text)})
    found = []
    if lacking:
        few = " ".join(lacking[:SHOWN]) + " …" * (len(lacking) > SHOWN)
        found.append(
            f"no font of this machine has {few} ({len(lacking)} characters, {_scripts(lacking)}); they are "
            "drawn as boxes: install a font, on Debian and Ubuntu fonts-noto-cjk (Chinese, Japanese, Korean) "
            "or fonts-noto-core (others)"
        )
    if any(map(needs_layout, texts)) and not features.check("raqm"):
        found.append(
            "Pillow has no text layout here, so text from right to left and joined letters come out wrong: "
            "install FriBiDi (Debian and Ubuntu: libfribidi0; macOS: brew install fribidi)"
        )
    return found


@cache
def tell_once(flaw: str) -> None:
    """One line on stderr, whatever the number of pictures."""
    print(f"note: {flaw}", file=sys.stderr, flush=True)


def needs_layout(text: str) -> bool:
    """Whether it has letters from right to left or marks that a simple row of glyphs misplaces."""
    return any(unicodedata.bidirectional(c) in ("R", "AL") or unicodedata.category(c)[0] == "M" for c in text)


def from_right(text: str) -> bool:
    """Whether its first letter that has a direction runs from right to left (UAX 9, rule P2)."""
    return next((d != "L" for c in text if (d := unicodedata.bidirectional(c)) in ("L", "R", "AL")), False)


@cache
def face(source: Source, size: int) -> ImageFont.FreeTypeFont:
    """The font at `size` pixels.

    Raises:
        OSError: there is no such file, or it is no font that Pillow opens.
    """
    if source != AILERON:
        return ImageFont.truetype(source.file, size, index=source.index)
    loaded = ImageFont.load_default(size)
    assert isinstance(loaded, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return loaded


def lacks(source: Source, text: Iterable[str]) -> set[str]:
    """The characters of a text that a font has no drawing for."""
    return {each for each in text if not _draws(source, each)}


@cache
def _draws(source: Source, character: str) -> bool:
    """Whether a character looks unlike one that no font has; what has no shape counts as drawn."""
    if unicodedata.category(character) in ("Zs", "Zl", "Zp", "Cc", "Cf"):
        return True
    drawn, box = (face(source, SAMPLE_SIZE).getmask(each) for each in (character, NO_CHARACTER))
    return (drawn.size, bytes(drawn)) != (box.size, bytes(box))


@cache
def source_for(characters: frozenset[str]) -> Source:
    """Aileron if it has all of these characters, else the font with most of them."""
    best, foreign = AILERON, frozenset(lacks(AILERON, characters))
    fewest = len(foreign)
    for source in _fonts_here(foreign) if foreign else ():
        lacking = len(lacks(source, characters))
        if lacking < fewest:
            best, fewest = source, lacking
        if not fewest:
            break
    return best


def _fonts_here(characters: frozenset[str]) -> Iterator[Source]:
    """The fonts of this machine that may have these characters, the likeliest first."""
    for source in (*_by_fontconfig(characters), *map(Source, BROUGHT)):
        try:
            face(source, SAMPLE_SIZE)
        except OSError:  # not on this machine, or of a kind that Pillow does not open
            continue
        yield source


@cache
def _by_fontconfig(characters: frozenset[str]) -> list[Source]:
    """The font that fontconfig prefers, of those that have most of these characters."""
    if (program := shutil.which("fc-match")) is None:
        return []
    wanted = " ".join(f"{ord(each):x}" for each in sorted(characters))
    names = [unicodedata.name(each, "") for each in characters]
    # The same character looks different in Chinese and Japanese fonts.
    japanese = any(name.startswith(("HIRAGANA", "KATAKANA")) for name in names)
    language = ":lang=zh-cn" if any(name.startswith("CJK") for name in names) and not japanese else ""
    told = subprocess.run(
        [program, "--format", "%{file}\\t%{index}", f"sans:charset={wanted}{language}"],
        capture_output=True,
        text=True,
    )
    file, _, index = told.stdout.partition("\t")
    # The upper half of an index chooses an instance of a variable font.
    return [Source(file, int(index or 0) & 0xFFFF)] if file else []


def _scripts(characters: Iterable[str]) -> str:
    """`CJK, Thai`"""
    names = (unicodedata.name(each, "unknown").split()[0] for each in characters)
    return ", ".join(sorted({name if name == "CJK" else name.title() for name in names}))
