"""Circles are not searched for within the block, and are afterwards, also if it fails."""

import gc

import pytest

from fsgr_model.runtime.collector import no_circles


def test_the_search_is_off_in_the_block_and_passes_over_what_was_made_there() -> None:
    before = gc.get_freeze_count()
    with no_circles():
        assert not gc.isenabled()
        made = [[number] for number in range(1000)]
    assert gc.isenabled() and gc.get_freeze_count() >= before + len(made)
    gc.unfreeze()


def test_an_error_turns_it_on_again() -> None:
    with pytest.raises(ValueError, match="broken"), no_circles():
        raise ValueError("broken")
    assert gc.isenabled()
    gc.unfreeze()
