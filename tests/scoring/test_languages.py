"""Chinese captions: what is scored is what the segmenter of `text.tokenizer` made, in every part alike."""

import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from fsgr_model.config.text_params import Segmenter
from fsgr_model.datasets.raw_form import RawCaption
from fsgr_model.datasets.reading import caption_records
from fsgr_model.datasets.text_tables import published_rows
from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.cider_d import CiderD, CiderDByBatch
from fsgr_model.scoring.coco_metrics import score_captions
from fsgr_model.scoring.comparison import check_comparable
from fsgr_model.scoring.document_frequencies import DocumentFrequencies
from fsgr_model.scoring.report import caption_report
from fsgr_model.scoring.sentence_chair import SentenceChair
from fsgr_model.text.caption_table import WordTable
from fsgr_model.text.segmenters import segment
from fsgr_model.text.vocabulary import EOS, PAD, UNK, build_vocabulary
from fsgr_model.training.validation import check_meaning

REAL = "FSGR_COCO_CN"
PACKAGE: dict[Segmenter, str] = {"jieba": "jieba", "words": "icu4py"}
REFERENCES = {
    1: ["一只棕色的小狗在草地上奔跑。", "小狗跑过绿色的草地"],
    2: ["两个孩子坐在沙发上看书", "两个小孩在沙发上，看着一本书"],
    3: ["一辆红色的公共汽车停在路边", "红色的巴士停在街道旁边"],
}
RESULTS = {1: "一只小狗在草地上跑", 2: "两个孩子在看书。", 3: "一辆公共汽车停在街道上"}
# The words of each caption as jieba 0.42.1 and ICU 78.3 divide them, and pycocoevalcap 1.2's CIDEr of them.
WRITTEN: dict[Segmenter, dict[str, list[str]]] = {
    "characters": {
        "references": [
            "一 只 棕 色 的 小 狗 在 草 地 上 奔 跑|小 狗 跑 过 绿 色 的 草 地",
            "两 个 孩 子 坐 在 沙 发 上 看 书|两 个 小 孩 在 沙 发 上 看 着 一 本 书",
            "一 辆 红 色 的 公 共 汽 车 停 在 路 边|红 色 的 巴 士 停 在 街 道 旁 边",
        ],
        "results": ["一 只 小 狗 在 草 地 上 跑", "两 个 孩 子 在 看 书", "一 辆 公 共 汽 车 停 在 街 道 上"],
    },
    "jieba": {
        "references": [
            "一只 棕色 的 小狗 在 草地 上 奔跑|小狗 跑 过 绿色 的 草地",
            "两个 孩子 坐在 沙发 上 看书|两个 小孩 在 沙发 上 看着 一 本书",
            "一辆 红色 的 公共汽车 停 在 路边|红色 的 巴士 停 在 街道 旁边",
        ],
        "results": ["一只 小狗 在 草地 上 跑", "两个 孩子 在 看书", "一辆 公共汽车 停 在 街道 上"],
    },
    "words": {
        "references": [
            "一只 棕色 的 小狗 在 草地 上 奔跑|小狗 跑 过 绿色 的 草地",
            "两 个 孩子 坐在 沙发 上 看书|两 个 小孩 在 沙发 上 看 着 一本书",
            "一 辆 红色 的 公共 汽车 停在 路边|红色 的 巴士 停在 街道 旁边",
        ],
        "results": ["一只 小狗 在 草地 上 跑", "两 个 孩子 在 看书", "一 辆 公共 汽车 停在 街道 上"],
    },
}
CIDER: dict[Segmenter, float] = {"characters": 3.194238, "jieba": 2.408840, "words": 2.559410}
INSTANCES = {
    "categories": [{"id": 1, "name": "狗"}, {"id": 2, "name": "猫"}],
    "annotations": [{"image_id": 1, "category_id": 1}],
}


@pytest.fixture(params=["characters", "jieba", "words"])
def segmenter(request: pytest.FixtureRequest) -> Segmenter:
    """Each segmenter whose package is installed here; CI installs both packages."""
    if request.param in PACKAGE:
        pytest.importorskip(PACKAGE[request.param])
    return request.param


def written(segmenter: Segmenter) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """References and results as the official scorers take them: words joined by spaces."""
    lines = WRITTEN[segmenter]
    references = {number: line.split("|") for number, line in enumerate(lines["references"], start=1)}
    return references, {number: [line] for number, line in enumerate(lines["results"], start=1)}


def test_scores_are_those_of_the_official_scorers_on_the_written_words(segmenter: Segmenter) -> None:
    report = score_captions(REFERENCES, RESULTS, "off", segmenter).metrics
    truth, found = written(segmenter)
    cider, _ = Cider().compute_score(truth, found)
    assert report["CIDEr"] == cider == pytest.approx(CIDER[segmenter], abs=1e-6)
    bleu, _ = Bleu(4).compute_score(truth, found, verbose=0)
    assert [report[f"Bleu_{order}"] for order in (1, 2, 3, 4)] == pytest.approx(bleu)
    assert report["ROUGE_L"] == Rouge().compute_score(truth, found)[0]


def test_spaces_make_no_difference_to_scores_by_characters() -> None:
    spaced = {image_id: " ".join(text) for image_id, text in RESULTS.items()}
    plain, found = (
        score_captions(REFERENCES, results, "off", "characters").metrics for results in (RESULTS, spaced)
    )
    assert found == plain


def test_a_reward_is_the_official_score_of_the_same_words(segmenter: Segmenter) -> None:
    """The words of the list, the reward in training and the score of the results are divided alike."""
    divided = {
        image_id: [segment(text, segmenter) for text in texts] for image_id, texts in REFERENCES.items()
    }
    words = WordTable.of(divided)
    spoken = {image_id: segment(text, segmenter) for image_id, text in RESULTS.items()}
    counts = words.counts()
    counts.update(word for caption in spoken.values() for word in caption)
    vocabulary = build_vocabulary(counts, 1, segmenter)
    references = vocabulary.encode_table(words)
    scorer = CiderD(references, DocumentFrequencies.of_table(references, len(vocabulary)), end_token=False)
    longest = max(map(len, spoken.values()))
    ids = [
        vocabulary.encode(caption, longest)[1:] + [PAD] * (longest - len(caption))
        for caption in spoken.values()
    ]
    assert scorer.score(ids, list(spoken)).mean() == pytest.approx(
        Cider().compute_score(*written(segmenter))[0]
    )
    assert [vocabulary.decode(row) for row in ids] == ["".join(caption) for caption in spoken.values()]
    check_meaning(dict(words), vocabulary.segmenter)


def test_what_is_known_of_english_only_is_left_out_with_the_reason() -> None:
    report, by_image = caption_report(
        REFERENCES, RESULTS, INSTANCES, "off", tokenizer="characters", spice=True
    )
    reasons = {row["metric"]: row["reason"] for row in report["omitted"]}
    assert "English only" in reasons["SPICE"] and "English only" in reasons["bad_endings"]
    assert "bad_endings" not in report and "bad_ending" not in by_image.columns
    assert report["CHAIRi"] == 0.0 and by_image.columns["objects"].tolist() == [1, 0, 0]
    invented = {**RESULTS, 2: "一只猫在看书"}
    assert caption_report(REFERENCES, invented, INSTANCES, "off", tokenizer="characters")[0]["CHAIRi"] == 0.5


def test_jieba_scores_no_other_language_without_spaces() -> None:
    pytest.importorskip("jieba")
    thai = {1: ["สุนัขวิ่งบนหญ้า"], 2: ["เด็กอ่านหนังสือ"], 3: ["รถบัสจอดอยู่"]}
    japanese = {1: ["犬が走る"], 2: ["子供が本を読む"], 3: ["バスが止まる"]}
    for name, references in (("Thai", thai), ("Japanese", japanese)):
        results = {number: texts[0] for number, texts in references.items()}
        report = score_captions(references, results, "off", "jieba")
        assert report.metrics == {}
        assert f"3 of 3 captions are {name} text, which jieba takes apart" in report.omitted[0]["reason"]
        assert score_captions(references, results, "off", "characters").metrics["CIDEr"] > 0
    assert "CIDEr" in score_captions(REFERENCES, RESULTS, "off", "jieba").metrics


def test_captions_in_other_letters_have_no_english_endings() -> None:
    arabic = {1: "كلب يركض على العشب", 2: "طفلان يقرآن كتابا على"}
    references = {number: [text] for number, text in arabic.items()}
    report, by_image = caption_report(references, arabic, None, "off", tokenizer="python")
    reasons = {row["metric"]: row["reason"] for row in report["omitted"]}
    assert "most letters here are not Latin" in reasons["bad_endings"]
    assert "bad_ending" not in by_image.columns and report["CIDEr"] == pytest.approx(10.0)
    english = {1: "a dog on a", 2: "a café"}
    report, _ = caption_report({n: [t] for n, t in english.items()}, english, None, "off", tokenizer="python")
    assert report["bad_endings"] == 0.5


def test_metrics_name_the_tokenizer_where_it_is_not_the_usual_one() -> None:
    """As text: `dvc metrics diff` shows numbers and texts of the top level, and no lists."""
    by_characters, _ = caption_report(REFERENCES, RESULTS, None, "off", tokenizer="characters")
    by_words, _ = caption_report(REFERENCES, RESULTS, None, "off", tokenizer="python")
    assert by_characters["tokenizer"] == "characters" and "tokenizer" not in by_words


def test_the_reward_of_chair_divides_the_names_as_the_captions() -> None:
    """A category of two letters is found in captions that are divided into letters."""
    divided = {
        number: [segment(text, "characters") for text in texts] for number, texts in REFERENCES.items()
    }
    words = WordTable.of(divided)
    vocabulary = build_vocabulary(words.counts(), 1, "characters")
    instances = {
        "categories": [{"id": 1, "name": "小狗"}, {"id": 2, "name": "汽车"}],
        "annotations": [{"image_id": 1, "category_id": 1}, {"image_id": 3, "category_id": 2}],
    }
    said = np.array([vocabulary.encode(list("汽车"), 2)[1:], vocabulary.encode(list("小狗"), 2)[1:]])
    assert SentenceChair(instances, words, vocabulary).score(said, [1, 1]).tolist() == [1.0, 0.0]


def test_scores_of_two_segmenters_are_never_compared(segmenter: Segmenter) -> None:
    a, b = (
        caption_report(REFERENCES, RESULTS, None, "off", tokenizer=each)[1] for each in ("python", segmenter)
    )
    assert a.references == b.references and a.signature != b.signature
    with pytest.raises(
        UserError, match=r"in another way: .*PTB.* and .*; score both again, with one tokenizer"
    ):
        check_comparable(a, b)
    check_comparable(b, b)


def coco_cn() -> dict[int, list[str]]:
    """The captions of each image of COCO-CN's file of 2020, in its order."""
    rows = published_rows(Path(os.environ[REAL]) / "coco-cn_ext.icap2020.txt")
    assert rows is not None and len(rows[0]) == 4712
    of_image: dict[str, list[str]] = defaultdict(list)
    for image, caption in rows[0]:
        of_image[image].append(caption)
    return dict(enumerate(of_image.values()))


@pytest.mark.skipif(REAL not in os.environ, reason=f"{REAL} names no folder of COCO-CN")
def test_real_captions_go_through_words_and_rewards(segmenter: Segmenter) -> None:
    """The reward of each image's last caption against all of its own, with words that occur five times."""
    captions = coco_cn()
    raw = [RawCaption(number, 0, text, "") for number, texts in captions.items() for text in texts]
    records = caption_records(raw, segmenter=segmenter)
    divided: dict[int, list[list[str]]] = defaultdict(list)
    for record in records:
        divided[record.image_id].append(record.tokens)
    words = WordTable.of(divided)
    vocabulary = build_vocabulary(words.counts(), 5, segmenter)
    references = vocabulary.encode_table(words)
    reward = CiderDByBatch(references, DocumentFrequencies.of_table(references, len(vocabulary)), False)
    length = int(references.words_C.max())
    ids = [(last := references[number][-1][1:]) + [PAD] * (length - len(last)) for number in captions]
    spelled = {
        number: [vocabulary.words[word] for word in ids[number] if word > EOS or word == UNK]
        for number in captions
    }
    truth = {
        number: [" ".join(vocabulary.words[word] for word in caption[1:-1]) for caption in references[number]]
        for number in captions
    }
    official, _ = Cider().compute_score(truth, {number: [" ".join(each)] for number, each in spelled.items()})
    assert reward.score(np.array(ids), list(captions)).mean() == pytest.approx(official)
    assert all(" " not in vocabulary.decode(row) for row in ids[:200] if UNK not in row)


@pytest.mark.skipif(REAL not in os.environ, reason=f"{REAL} names no folder of COCO-CN")
def test_the_segmenter_alone_moves_the_scores_of_coco_cn(segmenter: Segmenter) -> None:
    """The first caption of an image with several against the second."""
    of_image = coco_cn()
    several = [texts for texts in of_image.values() if len(texts) > 1]
    assert len(several) == 138
    found = score_captions(
        {number: texts[:1] for number, texts in enumerate(several)},
        {number: texts[1] for number, texts in enumerate(several)},
        "off",
        segmenter,
    ).metrics
    expected = {
        "characters": (1.590, 0.484, 0.176),
        "jieba": (0.970, 0.351, 0.078),
        "words": (1.067, 0.348, 0.093),
    }
    assert (found["CIDEr"], found["Bleu_1"], found["Bleu_4"]) == pytest.approx(expected[segmenter], abs=5e-4)
