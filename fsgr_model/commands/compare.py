"""Compare two systems: fsgr compare main blind-42

A and B are names that DVC or git know (experiments, branches, tags, commits), `workspace`, COCO result files,
or files that fsgr score --by-image wrote. With --references, files need no project. Every score is resampled
over the test images, with the same resamples for both; a difference is real if the interval that holds 95%
of the resampled differences excludes 0. The images that changed most are drawn on a sheet, if their
pictures are on this machine.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from fsgr_model.datasets.normal_form import read_instances
from fsgr_model.reporting.sample_sheet import SheetRow, draw_sample_sheet
from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.bootstrap import RESAMPLES
from fsgr_model.scoring.caption_tokens import Tokenizer
from fsgr_model.scoring.coco_files import SPLIT_CHOICES, ReferenceFile, read_reference_file
from fsgr_model.scoring.comparison import (
    References,
    as_table,
    check_comparable,
    differences,
    load_system,
    most_changed,
    references_of_test_split,
    why_no_cider,
)
from fsgr_model.scoring.image_scores import ImageScores
from fsgr_model.scoring.meaning import ONE_IMAGE_NO_INTERVAL

DATA = Path("data")
DATASET = DATA / "dataset"


def main() -> None:
    arguments = parse()
    references = find_references(arguments)
    a, b = (load_system(name, arguments.phase, DATA, references) for name in (arguments.a, arguments.b))
    check_comparable(a, b)
    print(f"A: {arguments.a}. B: {arguments.b}. {len(a.image_ids)} images, {RESAMPLES} resamples.")
    for note in notes(a, b, references):
        print(note)
    print(f"\n{as_table(differences(a, b))}")
    rows = most_changed(a, b, arguments.images)
    print(f"\nimages that changed most: {', '.join(str(a.image_ids[row]) for row in rows) or 'none'}")
    if rows:
        print(draw(arguments, references, a, b, rows=rows))


def find_references(arguments: argparse.Namespace) -> References | None:
    """The references of the file that is named, else of the test split; None if neither exists."""
    if arguments.references:
        file = read_reference_file(arguments.references, arguments.split)
        return References(file, None, arguments.tokenizer, arguments.subset)
    if arguments.split:
        raise UserError("--split chooses from the file of --references; name one")
    if not (DATASET / "images.json").exists():
        return None
    file = references_of_test_split(DATASET)
    return References(file, read_instances(DATASET), arguments.tokenizer, arguments.subset)


def notes(a: ImageScores, b: ImageScores, references: References | None) -> Iterator[str]:
    """Notes on which part of the references is scored, and what is left out."""
    if references is not None and a.references == references.file.fingerprint(a.image_ids):
        yield from (f"{fact['what']}: {fact['value']}" for fact in references.file.facts)
        everything = len(references.file.texts)
        if len(a.image_ids) < everything:
            yield f"subset: {len(a.image_ids)} of {everything} images, those with a result"
    if reason := why_no_cider(a, b):
        yield f"CIDEr is left out: {reason}"
    if len(a.image_ids) == 1:
        yield f"intervals are left out: {ONE_IMAGE_NO_INTERVAL}"


def draw(
    arguments: argparse.Namespace,
    references: References | None,
    a: ImageScores,
    b: ImageScores,
    *,
    rows: list[int],
) -> str:
    """Draw the sheet if the pictures are on this machine; return a line that says what was done."""
    if not (DATASET / "images.json").exists():
        return f"no sheet: the pictures are not on this machine ({DATASET} is missing)"
    try:
        if references is None or arguments.references:
            own = references_of_test_split(DATASET)
        else:
            own = references.file  # those of the test split were read already
        if a.references != own.fingerprint(a.image_ids):
            return "no sheet: the images are not the test images on this machine"
        draw_comparison(
            arguments.sheet, references=own, a=a, b=b, rows=rows, names=(arguments.a, arguments.b)
        )
    except UserError as error:
        return f"no sheet: {error}"
    return f"drawn on {arguments.sheet}"


def draw_comparison(
    path: Path,
    *,
    references: ReferenceFile,
    a: ImageScores,
    b: ImageScores,
    rows: Sequence[int],
    names: tuple[str, str],
) -> None:
    """Write a PNG with the pictures of these rows, both captions, a reference and the change of CIDEr.

    `references.names` are the paths of the pictures; `names` are those of A and B.
    """
    cards = []
    for row in rows:
        image_id = a.image_ids[row]
        before, after = a.columns["CIDEr"][row], b.columns["CIDEr"][row]
        texts = [("A", a.captions[row]), ("B", b.captions[row]), ("human", references.texts[image_id][0])]
        cards.append(
            SheetRow(Path(references.names[image_id]), texts, remark=f"CIDEr {before:.2f} to {after:.2f}")
        )
    draw_sample_sheet(
        path, cards, concepts=[], title=f"CIDEr changed most, from A ({names[0]}) to B ({names[1]})"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fsgr compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ("a", "b"):
        parser.add_argument(name, metavar=name.upper(), help="experiment, revision, workspace or file")
    parser.add_argument("--phase", choices=["xe", "scst", "ensemble"], default="scst", help="default scst")
    parser.add_argument(
        "--references",
        type=Path,
        help="COCO captions JSON or Karpathy's, for result files (default: test split)",
    )
    parser.add_argument("--split", choices=SPLIT_CHOICES, help="split of Karpathy's file (default test)")
    parser.add_argument(
        "--subset", action="store_true", help="result files may cover only a part of the references' images"
    )
    parser.add_argument(
        "--tokenizer",
        choices=get_args(Tokenizer),
        default="python",
        help="for result files (default python)",
    )
    parser.add_argument("--sheet", type=Path, default=Path("compare.png"), help="default compare.png")
    parser.add_argument("--images", type=int, default=12, help="images on the sheet (default 12)")
    return parser.parse_args()
