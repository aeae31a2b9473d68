"""Set two systems side by side: python -m pipeline.compare main blind-42

A and B are names that DVC or git know (experiments, branches, tags, commits), `workspace`, or COCO result
files. Every score is resampled over the test images, the same resamples for both; a difference is real if the
interval that holds 95% of the resampled ones leaves out 0. The images that changed most are drawn on a sheet.
"""

import argparse
from pathlib import Path

from fsgr_model.errors import run_command
from fsgr_model.reporting.comparison_sheet import draw_comparison
from fsgr_model.scoring.bootstrap import RESAMPLES
from fsgr_model.scoring.comparison import (
    as_table,
    check_comparable,
    differences,
    load_system,
    most_changed,
    references_of_file,
    references_of_test_split,
)

DATA = Path("data")


def main() -> None:
    arguments = parse()
    own = references = references_of_test_split(DATA / "dataset", arguments.tokenizer)
    if arguments.references:
        references = references_of_file(arguments.references, arguments.tokenizer)
        if references.note:
            print(f"note: {references.note}")
    a, b = (load_system(name, arguments.phase, DATA, references) for name in (arguments.a, arguments.b))
    check_comparable(a, b)
    print(f"A: {arguments.a}. B: {arguments.b}. {len(a.image_ids)} images, {RESAMPLES} resamples.\n")
    print(as_table(differences(a, b)))
    rows = most_changed(a, b, arguments.images)
    print(f"\nimages that changed most: {', '.join(str(a.image_ids[row]) for row in rows) or 'none'}")
    if a.references != own.fingerprint:
        print("no sheet: they are not the test images that lie here")
    elif rows:
        draw_comparison(arguments.sheet, DATA / "dataset", a, b, rows, (arguments.a, arguments.b))
        print(f"drawn on {arguments.sheet}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ("a", "b"):
        parser.add_argument(name, metavar=name.upper(), help="experiment, revision, workspace or file")
    parser.add_argument("--phase", choices=["xe", "scst"], default="scst", help="default scst")
    parser.add_argument(
        "--references", type=Path, help="COCO captions JSON for result files (default: the test split)"
    )
    parser.add_argument(
        "--tokenizer", choices=["python", "java"], default="python", help="for result files (default python)"
    )
    parser.add_argument("--sheet", type=Path, default=Path("compare.png"), help="default compare.png")
    parser.add_argument("--images", type=int, default=12, help="on the sheet (default 12)")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
