"""CHAIR of single captions on word ids: the share of the objects that a caption names and its image has not.

Equal to CHAIRi of `chair` for one caption at a time.

Shapes: N captions, L positions, C references, A images, J categories.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.chair import ObjectNames
from fsgr_model.scoring.cider_d import caption_lengths
from fsgr_model.scoring.document_frequencies import Floats
from fsgr_model.scoring.object_finder import ObjectFinder
from fsgr_model.text.caption_table import WordTable
from fsgr_model.text.vocabulary import Vocabulary


class SentenceChair:
    """Scores captions against the objects of their images: instances, and what the references name.

    An image that the instance files do not list has the score 0, since nobody knows what it shows.

    Args:
        instances: COCO `categories` and `annotations`, and `images` where only these are listed.
        references: the captions of the images, as words.

    Raises:
        UserError: no image of `references` has an object.
    """

    def __init__(
        self, instances: dict[str, list[dict[str, Any]]], references: WordTable, vocabulary: Vocabulary
    ) -> None:
        self.references = references
        # Names are divided as the captions were.
        segmenter = vocabulary.segmenter
        names = ObjectNames(instances["categories"], "python" if segmenter == "ptb" else segmenter)
        self.in_samples = ObjectFinder(names, vocabulary.words)
        # A reference may use words that the vocabulary has not.
        self.in_references = ObjectFinder(names, references.words)
        self.known: Collection[int] = references.table.image_ids.tolist()
        if "images" in instances:
            self.known = {row["id"] for row in instances["images"]}.intersection(self.known)
        self.present = self._annotated(instances["annotations"])
        if not self.present:
            raise UserError(
                "scst.reward.chair needs instances (objects with categories) of the training images, and "
                "this dataset has none (docs/howto/formats.md); leave chair out"
            )

    def _annotated(self, annotations: Sequence[dict[str, Any]]) -> dict[int, set[int]]:
        """The objects of each known image that has some, as indices of categories."""
        place_of = {category: place for place, category in enumerate(self.in_samples.categories)}
        known, present = set(self.known), defaultdict(set)
        for row in annotations:
            if row["image_id"] in known and row["category_id"] in place_of:
                present[row["image_id"]].add(place_of[row["category_id"]])
        self.known = known
        return dict(present)

    def score(self, caption_NL: NDArray[np.integer], image_ids: Sequence[int]) -> Floats:
        """The share of each caption, float64 [N]; 0 where it names no object.

        Args:
            caption_NL: word ids, one caption per row, which ends at its first `<eos>` or `<pad>`.
            image_ids: the image of each row.
        """
        asked, image_N = np.unique(np.asarray(image_ids, dtype=np.int64), return_inverse=True)
        word_NL = np.asarray(caption_NL, dtype=np.int64)
        named_NL = self.in_samples.mentions(word_NL, caption_lengths(word_NL, end_token=False))
        is_object_NL = named_NL >= 0
        wrong_NL = is_object_NL & ~self._present(asked.tolist())[image_N[:, None], named_NL]
        return wrong_NL.sum(axis=1) / np.maximum(is_object_NL.sum(axis=1), 1)

    def _present(self, image_ids: list[int]) -> NDArray[np.bool_]:
        """Which objects an image has, bool [A, J + 1]; the last column is for what is no object."""
        present_AJ = np.zeros((len(image_ids), len(self.in_samples.categories) + 1), dtype=bool)
        table = self.references.table.of_images(image_ids)
        for row, image_id in enumerate(image_ids):
            present_AJ[row, list(self.present.get(image_id, ()))] = True
            present_AJ[row] |= image_id not in self.known
        word_CL = np.zeros((len(table.words_C), int(table.words_C.max(initial=1))), dtype=np.int64)
        word_CL[np.arange(word_CL.shape[1]) < table.words_C[:, None]] = table.word_F
        named_CL = self.in_references.mentions(word_CL, table.words_C.astype(np.int64))
        image_C = np.repeat(np.arange(len(table)), table.captions_A)
        present_AJ[np.broadcast_to(image_C[:, None], named_CL.shape), named_CL] = True
        return present_AJ
