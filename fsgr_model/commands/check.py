"""Look at a parameter file before anything long starts: fsgr check

Are the files there and whole, as many images as published, do pictures decode, is CLIP there or within reach,
is there disk and memory, and how many hours will it take. The last line is "yes: ..." (exit code 0), or the
things to fix are listed (exit code 1). Nothing is written.
"""

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="fsgr check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="default params.yaml"
    )
    parser.add_argument("--all-images", action="store_true", help="decode every image, not a sample of 200")
    parser.add_argument("--no-timing", action="store_true", help="leave out the 30 seconds of measuring")
    arguments = parser.parse_args()
    # It takes seconds to import.
    from fsgr_model.checkup.checkup import check_project

    findings = check_project(arguments.params, arguments.all_images, not arguments.no_timing)
    print(findings.verdict())
    if findings.problems:
        raise SystemExit(1)
