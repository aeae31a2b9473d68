"""Check a parameter file before a long run: fsgr check

It checks that the files exist and are complete, that splits are as large as published, that pictures decode,
that CLIP is there or can be downloaded, and that disk and memory suffice, and estimates the hours of a run.
The last line is "yes: ..." (exit code 0), or the things to fix are listed (exit code 1). Nothing is written.
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
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="for so many processes, also those of several machines; default: runtime.processes",
    )
    arguments = parser.parse_args()
    if arguments.processes is not None and arguments.processes < 1:
        parser.error(f"--processes {arguments.processes}: there is at least one")
    # This import takes seconds.
    from fsgr_model.checkup.checkup import check_project

    findings = check_project(
        arguments.params,
        all_images=arguments.all_images,
        timing=not arguments.no_timing,
        processes=arguments.processes,
    )
    print(findings.verdict())
    if findings.problems:
        raise SystemExit(1)
