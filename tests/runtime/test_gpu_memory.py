"""A GPU that is too small: the message has a number of images that was tried and fits."""

import gc
import weakref

import pytest
import torch

from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.gpu_memory import largest_fitting, suggest_batch_size


def memory_for(most):
    def attempt(images):
        if images > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    return attempt


@pytest.mark.parametrize(("most", "fitting"), [(63, 50), (50, 50), (24, 12), (1, 1), (0, 0)])
def test_halves_are_tried_until_one_fits(most, fitting):
    assert largest_fitting(memory_for(most), 100) == fitting


def test_the_message_names_parameter_need_and_what_fits():
    with pytest.raises(UserError) as caught, suggest_batch_size(memory_for(30), 100, "xe.batch_size"):
        memory_for(30)(100)
    assert str(caught.value) == (
        "xe.batch_size: a step of 100 images needs more memory than there is (CUDA out of memory. Tried to "
        "allocate 2.00 GiB); 25 fit, set xe.batch_size: 25"
    )
    with (
        pytest.raises(UserError, match="not even one fits"),
        suggest_batch_size(memory_for(0), 100, "xe.batch_size"),
    ):
        memory_for(0)(100)


def test_a_step_that_fits_is_done_once():
    done = []
    with suggest_batch_size(memory_for(0), 100, "xe.batch_size"):
        done.append(100)
    assert done == [100]


def test_the_failed_step_holds_no_memory_while_others_are_tried():
    class Big:
        pass

    alive = []

    def step():
        big = Big()
        alive.append(weakref.ref(big))
        raise torch.OutOfMemoryError("full")

    with pytest.raises(UserError), suggest_batch_size(lambda n: alive.append(alive[0]()), 4, "x"):
        step()
    gc.collect()
    assert alive[1] is None
