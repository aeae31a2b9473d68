"""Objects in captions given as word ids: what `ObjectNames.mentions` finds, in many captions at once.

Shapes: N captions, L positions, M places in captions where a name may still be going on.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fsgr_model.scoring.chair import ObjectNames
from fsgr_model.scoring.ngrams import Ints, KeyIndex

NOT_A_NAME, NO_OBJECT = -2, -1


class ObjectFinder:
    """The names as a tree of words: a state is a beginning of names, and a word leads to the next state.

    `categories`: their ids; what is found are indices into it.
    """

    def __init__(self, names: ObjectNames, words: Sequence[str]) -> None:
        """`words`: those that the word ids stand for. Names with other words are never found."""
        self.categories = list(names.objects)
        self.num_words = len(words)
        id_of = {word: number for number, word in enumerate(words)}
        place_of = {category: place for place, category in enumerate(self.categories)}
        # Key: state x number of words + word.
        following: dict[int, int] = {}
        meaning = [NOT_A_NAME]
        for phrase, category in names.phrases.items():
            if not all(word in id_of for word in phrase):
                continue
            state = 0
            for word in phrase:
                key = state * self.num_words + id_of[word]
                if key not in following:
                    following[key] = len(meaning)
                    meaning.append(NOT_A_NAME)
                state = following[key]
            meaning[state] = NO_OBJECT if category is None else place_of[category]
        self.meaning = np.array(meaning)
        keys = np.fromiter(following, dtype=np.int64, count=len(following))
        self.index = KeyIndex(keys)
        self.next_state = np.fromiter(following.values(), dtype=np.int64, count=len(following))[
            self.index.order
        ]

    def mentions(self, word_NL: Ints, length_N: Ints) -> NDArray[np.int64]:
        """Where each named object begins, the index of its category, elsewhere -1; int64 [N, L].

        Names are taken from left to right, the longest at each place, and do not overlap.
        """
        found_NL, size_NL = self._longest_names(word_NL, length_N)
        next_N = np.zeros(len(word_NL), dtype=np.int64)
        for position in range(word_NL.shape[1]):
            inside_N = position < next_N
            found_NL[inside_N, position] = NO_OBJECT
            next_N = np.where(inside_N, next_N, position + size_NL[:, position])
        return found_NL

    def _longest_names(self, word_NL: Ints, length_N: Ints) -> tuple[Ints, Ints]:
        """The longest name that begins at each place, or NO_OBJECT, and how many words it has."""
        found_NL = np.full(word_NL.shape, NO_OBJECT)
        size_NL = np.ones(word_NL.shape, dtype=np.int64)
        row_M, first_M = np.nonzero(np.arange(word_NL.shape[1]) < length_N[:, None])
        state_M = np.zeros(len(row_M), dtype=np.int64)
        words = 0
        while len(row_M):
            word_M = word_NL[row_M, first_M + words]
            place_M = self.index.find(state_M * self.num_words + word_M)
            words += 1
            known = place_M >= 0
            row_M, first_M, state_M = row_M[known], first_M[known], self.next_state[place_M[known]]
            ended = self.meaning[state_M] != NOT_A_NAME
            found_NL[row_M[ended], first_M[ended]] = self.meaning[state_M[ended]]
            size_NL[row_M[ended], first_M[ended]] = words
            goes_on = first_M + words < length_N[row_M]
            row_M, first_M, state_M = row_M[goes_on], first_M[goes_on], state_M[goes_on]
        return found_NL, size_NL
