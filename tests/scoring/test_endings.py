from fsgr_model.scoring.report import ends_badly


def test_unfinished_captions() -> None:
    captions = [
        "A dog with a",
        "a dog on.",
        "a cat AND",
        "a cat on a mat",
        "a red car",
        "",
        "standing in the",
    ]
    assert [ends_badly(caption) for caption in captions] == [True, True, True, False, False, False, True]
