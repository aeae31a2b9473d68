"""Write captions in the format of an evaluation server:

    fsgr caption --json val2014/ > val.jsonl
    fsgr results --captions val.jsonl --images captions_val2014.json \\
        --split val2014 --name mine

writes captions_val2014_mine_results.json. The COCO server expects the files of val2014 and
test2014 in one zip.
"""

import argparse
from pathlib import Path

from fsgr_model.scoring.coco_files import read_results
from fsgr_model.scoring.submission import SERVERS, write_results


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="fsgr results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--captions",
        type=Path,
        required=True,
        help="result file, or lines of fsgr caption --json",
    )
    parser.add_argument("--images", type=Path, required=True, help="JSON that lists id and file_name of each")
    parser.add_argument(
        "--split", choices=SERVERS, required=True, help="the server's split, which sets rules and file name"
    )
    parser.add_argument(
        "--name", required=True, help="name of your method: letters, digits, hyphens, full stops"
    )
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="default: here")
    arguments = parser.parse_args()
    path = write_results(
        arguments.captions,
        images=arguments.images,
        split=arguments.split,
        name=arguments.name,
        folder=arguments.out,
    )
    written, expected = len(read_results(path)), SERVERS[arguments.split].images
    print(f"{path}: {written} captions")
    if written != expected:
        print(f"note: {arguments.split} has {expected} images; the server refuses an incomplete file")
