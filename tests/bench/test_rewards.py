"""The benchmarks of rewards: every reward is timed, and every setting has its row."""

import torch

from bench import reward_share, rewards
from bench.limits import Limits
from bench.networks import TINY
from bench.options import Options
from bench.steps import Bench

LIMITS = Limits(100.0, 400.0, 30.0, 1.0, 1.0, 10.0)


def test_every_reward_is_timed_and_those_of_words_together() -> None:
    options = Options(torch.device("cpu"), (torch.float32,), False, (2,), rounds=1, sizes=TINY)
    rows = reward_share.measure(Bench(options, LIMITS))
    assert all(row.value > 0 for row in rows)
    assert [row.what.partition(":")[0] for row in rows[1:]] == [
        *reward_share.WORD_REWARDS,
        "clip_score",
        "ref_clip_score",
        " + ".join(reward_share.WORD_REWARDS),
    ]


def test_the_table_has_a_row_for_each_setting_with_the_spread_of_its_seeds() -> None:
    run = dict.fromkeys(rewards.COLUMNS, 0.5) | {"device": "a processor"}
    known = {
        "xe": run,
        "cider_d-42": run | {"CIDEr": 1.0},
        "cider_d-43": run | {"CIDEr": 1.5},
        "chair-4-43": run | {"CIDEr": 1.3},
        "mean-44": run,
    }
    _, _, *lines = rewards.table(known).splitlines()
    for line, start, gain in zip(
        lines,
        (
            "| (XE, before SCST) | 1 | 0.500 | ",
            "| 1 cider_d | 2 | 1.250 ± 0.354 | ",
            "| 1 cider_d - 4 chair | 1 | 1.300 | ",
            "| 1 cider_d; baseline mean | 1 | 0.500 | ",
        ),
        # Seed 43 beside seed 43; nothing where that of CIDEr-D is missing.
        ("", "100.0%", "80.0%", ""),
        strict=False,
    ):
        assert line.startswith(start) and line.endswith(f" | {gain} |")


def test_faults_are_those_of_the_words() -> None:
    from fsgr_model.text.vocabulary import SPECIALS, Vocabulary

    found = rewards.faults(["a dog", "a dog and a dog", "a dog"], Vocabulary([*SPECIALS, "a", "dog", "and"]))
    assert found == {"words": 3, "repetition": 1 / 9 / 3, "distinct": 2}
