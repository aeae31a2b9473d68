import pytest

from fsgr_model.scoring.endings import bad_ending_share


def test_share_of_unfinished_captions() -> None:
    captions = [
        "A dog with a",
        "a dog on.",
        "a cat AND",
        "a cat on a mat",
        "a red car",
        "",
        "standing in the",
    ]
    assert bad_ending_share(captions) == pytest.approx(4 / 7)


def test_no_captions() -> None:
    with pytest.raises(ValueError, match="no captions"):
        bad_ending_share([])
