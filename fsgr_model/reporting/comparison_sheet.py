"""The test images whose captions of two systems differ most, drawn on a sheet."""

from collections.abc import Sequence
from pathlib import Path

from fsgr_model.reporting.sample_sheet import SheetRow, draw_sample_sheet
from fsgr_model.scoring.coco_files import ReferenceFile
from fsgr_model.scoring.image_scores import ImageScores


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
