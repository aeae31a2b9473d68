"""Scores that would mean nothing are left out, with the reason."""

import pytest

from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.meaning import unsegmented_script, why_no_cider, why_no_words
from fsgr_model.scoring.report import add_intervals, caption_report
from fsgr_model.training.validation import check_meaning


@pytest.mark.parametrize(
    ("caption", "script"),
    [
        ("一只狗在跑", "Chinese or Japanese"),
        ("一只狗，在草地上奔跑。", "Chinese or Japanese"),
        ("一只狗在跑 。", "Chinese or Japanese"),
        ("犬が芝生を走る", "Chinese or Japanese"),
        ("สุนัขวิ่งบนสนามหญ้า", "Thai"),
        ("ຫມາແລ່ນຢູ່ໃນຫຍ້າ", "Lao"),
        ("ឆ្កែរត់លើស្មៅ", "Khmer"),
        ("ခွေးသည်မြက်ပေါ်ပြေးသည်", "Burmese"),
        ("มีสุนัขตัวหนึ่งกำลังวิ่งเล่น 2 ตัว", "Thai"),
        ("一 只 狗 在 草地 上 奔跑", None),
        ("สุนัข วิ่ง บน สนามหญ้า", None),
        ("ឆ្កែ\u200bរត់\u200bលើ\u200bស្មៅ", None),
        ("狗", None),
        ("iPhone 手机壳", None),
        ("Straßenbahnhaltestelle", None),
        ("개가달린다", None),
        ("собака бежит", None),
        ("", None),
    ],
)
def test_which_captions_need_a_segmenter(caption: str, script: str | None) -> None:
    assert unsegmented_script(caption) == script


def test_a_few_unsegmented_captions_are_no_reason() -> None:
    few = [["a dog runs"]] * 19 + [["一只狗在跑"]]
    assert why_no_words(few) is None
    reason = why_no_words([*few, *[["一只狗在跑"]] * 4])
    assert reason and reason.startswith("needs a segmenter: 5 of 24 captions are Chinese or Japanese")


def test_no_score_of_words_for_text_that_needs_a_segmenter() -> None:
    references = {1: ["一只狗在草地上奔跑"], 2: ["两只猫睡在床上"]}
    instances = {
        "categories": [{"id": 1, "name": "狗"}],
        "annotations": [{"image_id": 1, "category_id": 1}],
    }
    for results in ({1: "一只狗在跑", 2: "两只猫在睡觉"}, {1: "一 只 狗", 2: "两 只 猫"}):
        report, by_image = caption_report(references, results, instances, "off", tokenizer="python")
        add_intervals(report, by_image)
        assert report.keys() == {"images", "omitted"}
        reasons = {row["metric"]: row["reason"] for row in report["omitted"]}
        assert {"Bleu_4", "ROUGE_L", "CIDEr", "METEOR", "SPICE", "CHAIRi", "bad_endings"} <= reasons.keys()
        assert all("needs a segmenter" in reason for reason in reasons.values())
    segmented = {image_id: [" ".join(texts[0])] for image_id, texts in references.items()}
    report, _ = caption_report(segmented, {1: "一 只 狗 跑", 2: "两 只 猫"}, None, "off", tokenizer="python")
    assert report["CIDEr"] > 0.5


def test_one_image_has_no_cider_and_no_interval() -> None:
    report, by_image = caption_report({1: ["a dog runs"]}, {1: "a dog runs"}, None, "off", tokenizer="python")
    add_intervals(report, by_image)
    assert report["Bleu_2"] == pytest.approx(1) and "CIDEr" not in report and "interval_95" not in report
    reasons = {row["metric"]: row["reason"] for row in report["omitted"]}
    assert "one image" in reasons["CIDEr"] and "several images" in reasons["interval_95"]


def test_images_described_alike_have_no_cider() -> None:
    alike = {1: ["a dog runs"], 2: ["a dog runs", "A dog runs."], 3: ["a dog runs"]}
    assert "same n-grams" in (why_no_cider(alike) or "")
    assert why_no_cider(alike | {3: ["a dog sits"]}) is None


def test_captions_that_name_no_object_have_no_chair() -> None:
    instances = {"categories": [{"id": 1, "name": "dog"}], "annotations": [{"image_id": 1, "category_id": 1}]}
    references = {1: ["ein Hund rennt"], 2: ["eine Katze"]}
    report, _ = caption_report(
        references, {1: "ein Hund", 2: "eine Katze"}, instances, "off", tokenizer="python"
    )
    reasons = {row["metric"]: row["reason"] for row in report["omitted"]}
    assert "CHAIRi" not in report and "no caption names an object" in reasons["CHAIRs"]


def test_no_chair_where_the_instance_files_list_a_part_of_the_images() -> None:
    instances = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": 1}],
    }
    references = {1: ["it runs"], 2: ["it sits"]}
    report, _ = caption_report(references, {1: "a dog", 2: "a dog"}, instances, "off", tokenizer="python")
    reasons = {row["metric"]: row["reason"] for row in report["omitted"]}
    assert "CHAIRi" not in report and reasons["CHAIRi"] == "the instance files list 1 of the 2 images"


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        ({1: [["a", "dog"]]}, "one image"),
        ({1: [["一只狗在跑", "。"]], 2: [["两只猫在睡觉"]]}, "needs a segmenter"),
    ],
)
def test_no_epoch_is_chosen_by_a_score_that_means_nothing(
    tokens: dict[int, list[list[str]]], reason: str
) -> None:
    with pytest.raises(UserError, match=f"the best epoch is chosen by CIDEr-D.*{reason}"):
        check_meaning(tokens)
    check_meaning({1: [["a", "dog"]], 2: [["a", "cat"]]})
