"""Score COCO-format captions: fsgr score --references captions.json --results results.json"""

import argparse
import json
from pathlib import Path
from typing import get_args

from fsgr_model.scoring.caption_tokens import Tokenizer
from fsgr_model.scoring.coco_files import SPLIT_CHOICES, ScoredFiles, score_files


def main() -> None:
    parser = argparse.ArgumentParser(prog="fsgr score", description=__doc__)
    parser.add_argument(
        "--references",
        type=Path,
        required=True,
        help="COCO captions JSON (images, annotations) or Karpathy's",
    )
    parser.add_argument("--split", choices=SPLIT_CHOICES, help="split of Karpathy's file (default test)")
    parser.add_argument("--results", type=Path, required=True, help='JSON list of {"image_id", "caption"}')
    parser.add_argument(
        "--subset", action="store_true", help="score the images that have a result; the others are left out"
    )
    parser.add_argument("--instances", type=Path, help="COCO instances JSON, for CHAIR")
    parser.add_argument("--meteor", choices=["auto", "off"], default="auto", help="auto: if Java is found")
    parser.add_argument(
        "--tokenizer",
        choices=get_args(Tokenizer),
        default="python",
        help="java: the official program; characters, jieba, words: for text without spaces",
    )
    parser.add_argument(
        "--spice",
        action="store_true",
        help="SPICE as well; needs an old Java and a download: docs/howto/scores.md",
    )
    parser.add_argument(
        "--by-image", type=Path, metavar="FILE", help="write the scores of each image as JSON"
    )
    arguments = parser.parse_args()
    files = ScoredFiles(
        references=arguments.references,
        results=arguments.results,
        instances=arguments.instances,
        split=arguments.split,
        subset=arguments.subset,
    )
    report, by_image = score_files(
        files, meteor=arguments.meteor, tokenizer=arguments.tokenizer, spice=arguments.spice
    )
    if arguments.by_image:
        by_image.save(arguments.by_image)
    print(json.dumps(report, indent=1, ensure_ascii=False))
