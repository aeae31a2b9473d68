"""Damaged files for every reader and arbitrary text for the tokenizer: python -m bench.fuzz --cases 100000

It prints one line per target: the files tried, how many of them were refused (the others could be read), and
the seconds that the slowest took. It ends with the first file that makes a reader crash, made as small as
possible. --seed gives other files; --only runs the targets whose name contains a word.
"""

import argparse
import tempfile
from pathlib import Path

from tests.fuzz.fuzz import fuzz
from tests.fuzz.targets import TARGETS, cases_of


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=100_000, help="of all targets together (default 100000)")
    parser.add_argument("--seed", type=int, default=1, help="default 1; the tests use 0")
    parser.add_argument("--only", default="", metavar="WORD", help="default: all targets")
    arguments = parser.parse_args()
    print(f"{'reader':<16}{'files':>8}{'refused':>9}{'slowest s':>11}")
    total = 0
    for target in TARGETS:
        if arguments.only in target.name:
            with tempfile.TemporaryDirectory() as folder:
                cases = cases_of(target, arguments.cases)
                count = fuzz(target, cases, arguments.seed, Path(folder) / "files")
            print(f"{target.name:<16}{count.cases:>8}{count.refused:>9}{count.slowest:>11.3f}", flush=True)
            total += count.cases
    print(f"{'in all':<16}{total:>8}, and no crash")


if __name__ == "__main__":
    main()
