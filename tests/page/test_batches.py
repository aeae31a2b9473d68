"""Batches across requests: who comes while others are captioned goes together, with equal options."""

import threading

import pytest
import torch
from torch import Tensor

from fsgr_model.inference.describing import Caption, DescribedImage
from fsgr_model.inference.wishes import Unfulfilled
from fsgr_model.page.batches import Batches, TooMany


class Held:
    """Describes an image by its number, and the first batch only when it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def describe(self, images: list[Tensor]) -> list[DescribedImage]:
        self.batches.append([int(image) for image in images])
        self.begun.set()
        assert self.go.wait(10)
        if any(image < 0 for image in images):
            raise ValueError("below zero")
        return [DescribedImage([Caption(str(int(image)), [], 0.0, [], [])], None) for image in images]


def test_what_waits_goes_together_and_everyone_gets_their_own() -> None:
    held, batches = Held(), Batches(size=3, most_waiting=8)
    done = [batches.add(torch.tensor(0), held, "a")]
    assert held.begun.wait(10)
    done += [batches.add(torch.tensor(number), held, "b" if number == 2 else "a") for number in range(1, 7)]
    held.go.set()
    assert [each.result(10).captions[0].text for each in done] == list("0123456")
    assert held.batches == [[0], [1, 3, 4], [2], [5, 6]]
    batches.close()


def test_more_than_may_wait_are_refused_and_none_is_lost() -> None:
    held, batches = Held(), Batches(size=2, most_waiting=2)
    done = [batches.add(torch.tensor(0), held, "a")]
    assert held.begun.wait(10)
    done += [batches.add(torch.tensor(number), held, "a") for number in (1, 2)]
    with pytest.raises(TooMany):
        batches.add(torch.tensor(3), held, "a")
    held.go.set()
    assert [each.result(10).captions[0].text for each in done] == ["0", "1", "2"]
    batches.close()


def test_a_failure_reaches_those_of_its_batch_only() -> None:
    held, batches = Held(), Batches(size=1, most_waiting=9)
    held.go.set()
    bad, good = (batches.add(torch.tensor(number), held, "a") for number in (-1, 1))
    with pytest.raises(ValueError, match="below zero"):
        bad.result(10)
    assert good.result(10).captions[0].text == "1"
    batches.close()


def test_what_one_picture_cannot_be_is_not_the_fault_of_the_others() -> None:
    class Picky(Held):
        def describe(self, images: list[Tensor]) -> list[DescribedImage]:
            if bad := [place for place, image in enumerate(images) if image < 0]:
                raise Unfulfilled("a picture below 0", bad)
            return super().describe(images)

    picky, batches = Picky(), Batches(size=3, most_waiting=9)
    first = batches.add(torch.tensor(0), picky, "a")
    assert picky.begun.wait(10)
    done = [batches.add(torch.tensor(number), picky, "a") for number in (1, -1, 2)]
    picky.go.set()
    assert [each.result(10).captions[0].text for each in (first, done[0], done[2])] == ["0", "1", "2"]
    with pytest.raises(Unfulfilled, match="no caption of this picture"):
        done[1].result(10)
    batches.close()


def test_one_who_has_gone_is_not_captioned() -> None:
    held, batches = Held(), Batches(size=4, most_waiting=9)
    first = batches.add(torch.tensor(0), held, "a")
    assert held.begun.wait(10)
    gone, stays = (batches.add(torch.tensor(number), held, "a") for number in (1, 2))
    assert gone.cancel()
    held.go.set()
    assert first.result(10) and stays.result(10)
    assert held.batches == [[0], [2]]
    batches.close()
