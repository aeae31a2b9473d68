"""How captions are divided into words and joined again."""

import json
import sys
from pathlib import Path

import pytest

from fsgr_model.config.text_params import Segmenter
from fsgr_model.runtime.errors import UserError
from fsgr_model.text.imported_words import import_words
from fsgr_model.text.segmenters import _jieba_cut, described, join, segment
from fsgr_model.text.vocabulary import EOS, SPECIALS, Vocabulary

DIVIDED: list[tuple[Segmenter, str, str, str]] = [
    ("ptb", "Two hot dogs don't run.", "two hot dogs do n't run", "two hot dogs do n't run"),
    ("characters", "一只小狗，睡在沙发上。", "一 只 小 狗 睡 在 沙 发 上", "一只小狗睡在沙发上"),
    ("characters", "𠮷野家 3 A", "𠮷 野 家 3 a", "𠮷野家3a"),
    ("characters", "ที่", "ที่", "ที่"),
    ("characters", "\u0301a", "\u0301 a", "\u0301a"),
    ("jieba", "一只小狗，睡在沙发上。", "一只 小狗 睡 在 沙发 上", "一只小狗睡在沙发上"),
    ("jieba", "两个 Hot Dog", "两个 hot dog", "两个hot dog"),
    ("jieba", "在Café 看метро", "在 café 看 метро", "在café看метро"),
    ("jieba", "cafe\u0301 3d打印", "cafe\u0301 3d 打印", "cafe\u0301 3d打印"),
    ("words", "一只小狗，睡在沙发上。", "一只 小狗 睡在 沙发 上", "一只小狗睡在沙发上"),
    ("words", "𠮷野家 😀a", "𠮷 野家 a", "𠮷野家a"),
    ("words", "สุนัขกำลังวิ่ง 2 ตัว", "สุนัข กำลัง วิ่ง 2 ตัว", "สุนัขกำลังวิ่ง2ตัว"),
    ("words", "犬が芝生を走る", "犬 が 芝生 を 走る", "犬が芝生を走る"),
    ("words", "Ein Hund läuft, 3.5 m!", "ein hund läuft 3.5 m", "ein hund läuft 3.5 m"),
    ("words", "개가 잔디 위를 달린다", "개가 잔디 위를 달린다", "개가 잔디 위를 달린다"),
    ("words", "كلب يركض على العشب.", "كلب يركض على العشب", "كلب يركض على العشب"),
]
PACKAGE: dict[Segmenter, str] = {"jieba": "jieba", "words": "icu4py"}


@pytest.mark.parametrize(("segmenter", "text", "words", "joined"), DIVIDED)
def test_a_caption_is_divided_and_joined(segmenter: Segmenter, text: str, words: str, joined: str) -> None:
    if segmenter in PACKAGE:
        pytest.importorskip(PACKAGE[segmenter])
    assert segment(text, segmenter) == words.split(" ")
    assert join(words.split(" "), segmenter) == joined


@pytest.mark.parametrize("segmenter", ["ptb", "characters", "jieba", "words"])
def test_punctuation_is_no_word(segmenter: Segmenter) -> None:
    if segmenter in PACKAGE:
        pytest.importorskip(PACKAGE[segmenter])
    assert segment("... !", segmenter) == segment("", segmenter) == []


def test_words_of_a_script_without_spaces_are_joined_whoever_divided_them() -> None:
    assert join(["一只", "hot", "dog", "在", "草地"], "jieba") == "一只hot dog在草地"
    assert join(["สุนัข", "2", "ตัว"], "words") == "สุนัข2ตัว"
    assert join([], "words") == ""


@pytest.mark.parametrize(("package", "extra"), [("jieba", "chinese"), ("icu4py", "words")])
def test_a_missing_package_is_one_line_that_names_the_extra(
    package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (package, f"{package}.breakers"):
        monkeypatch.setitem(sys.modules, name, None)
    segmenter: Segmenter = "jieba" if package == "jieba" else "words"
    _jieba_cut.cache_clear()
    with pytest.raises(UserError, match=rf'pip install "fsgr-captioning\[{extra}\]"$'):
        described(segmenter)


def test_the_word_list_remembers_its_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    Vocabulary([*SPECIALS, "一", "只", "狗"], "characters").save(path)
    loaded = Vocabulary.load(path)
    assert (loaded.segmenter, loaded.decode([4, 5, 6, EOS, 4])) == ("characters", "一只狗")
    Vocabulary([*SPECIALS, "a", "dog"]).save(path)
    assert json.loads(path.read_text()) == [*SPECIALS, "a", "dog"]
    assert Vocabulary.load(path).decode([4, 5]) == "a dog"


def test_a_list_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    Vocabulary([*SPECIALS, "狗"], "characters").save(path)
    assert import_words(path, "characters")[0].segmenter == "characters"
    with pytest.raises(UserError, match=r"made by tokenizer characters, and text\.tokenizer is jieba"):
        import_words(path, "jieba")
    path.write_text(json.dumps([*SPECIALS, "狗"]))
    assert import_words(path, "jieba")[0].segmenter == "jieba"
    path.write_text(json.dumps({"tokenizer": "thulac", "itos": [*SPECIALS]}))
    with pytest.raises(UserError, match=r"`tokenizer` must be one of ptb, .*; found 'thulac'"):
        Vocabulary.load(path)
