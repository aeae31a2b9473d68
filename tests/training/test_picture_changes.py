"""Random changes of CLIP's training pictures do what they say, and draw nothing where they are off."""

import pytest
import torch

from fsgr_model.config.params import ClipTrainingParams
from fsgr_model.training.picture_changes import (
    change_colours,
    change_pictures,
    crop_and_mirror,
    drop_colours,
    move,
)

OFF = ClipTrainingParams(epochs=1, batch_size=8, lr=1e-3, weight_decay=0.1, warmup_epochs=0)


@pytest.fixture(autouse=True)
def same_draws():
    torch.manual_seed(0)


def test_moved_pictures_are_shifted_whole():
    ramp = torch.arange(32.0).expand(1, 3, 32, 32)
    moved = [move(ramp, 1 / 12)[0, 0] for _ in range(100)]
    shifts = {int(picture[0, 16]) - 16 for picture in moved}
    assert shifts == set(range(-3, 4))
    assert all(torch.equal(picture[5], picture[20]) for picture in moved)


def test_some_pictures_lose_their_colours_and_nothing_else():
    images = torch.rand(400, 3, 4, 4)
    dropped = drop_colours(images, 0.25)
    grey = (dropped == dropped[:, :1]).flatten(1).all(dim=1)
    assert 60 < grey.sum() < 140
    assert torch.equal(dropped[~grey], images[~grey])
    torch.testing.assert_close(dropped[grey].mean(dim=1), images[grey].mean(dim=1))
    assert drop_colours(images, 0.0) is images


def test_a_crop_is_a_part_of_the_picture_drawn_out():
    """Channels that hold the place of each pixel show which part it is."""
    across = torch.arange(64.0).expand(64, 64) / 63
    places = torch.stack([across, across.T, across]).expand(200, 3, 64, 64)
    cropped = crop_and_mirror(places, area=0.5, mirror=0)
    wide, high = (cropped[:, 0, 32, 1:-1], cropped[:, 1, 1:-1, 32])
    width_B, height_B = ((part[:, -1] - part[:, 0]) * 63 / 61 for part in (wide, high))
    area_B = width_B * height_B
    assert area_B.min() > 0.5 - 0.02 and area_B.max() < 1 + 0.02 and area_B.std() > 0.05
    assert (width_B / height_B).max() < 4 / 3 + 0.05 and (width_B / height_B).std() > 0.05
    # Even steps within a line, lines alike, and all of it inside of the picture.
    torch.testing.assert_close(wide.diff(dim=1), (width_B / 63)[:, None].expand(200, 61), atol=2e-3, rtol=0)
    torch.testing.assert_close(cropped[:, 0, 5], cropped[:, 0, 40])
    assert cropped.min() >= 0 and cropped.max() <= 1


def test_some_pictures_are_mirrored():
    images = torch.rand(400, 3, 4, 4)
    changed = crop_and_mirror(images, area=1, mirror=0.25)
    mirrored = (changed - images.flip(-1)).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert 60 < mirrored.sum() < 140
    torch.testing.assert_close(changed[~mirrored], images[~mirrored])


def test_colours_change_by_up_to_their_share():
    images = torch.rand(300, 3, 8, 8)
    changed = change_colours(images, 0.3)
    spread_B = changed.std(dim=(1, 2, 3)) / images.std(dim=(1, 2, 3))
    assert 0.7**2 - 0.05 < spread_B.min() < 0.8 and 1.2 < spread_B.max() < 1.3**2 + 0.05
    moved_B = changed.mean(dim=(1, 2, 3)) - images.mean(dim=(1, 2, 3))
    assert moved_B.abs().max() < 0.4 and moved_B.std() > 0.1
    colour_BC = changed.mean(dim=(2, 3)) - changed.mean(dim=(1, 2, 3))[:, None]
    assert colour_BC.std() > 0.03


def test_changes_that_are_off_draw_nothing_but_the_shift():
    images = torch.rand(5, 3, 8, 8)
    assert crop_and_mirror(images, area=1, mirror=0) is images and change_colours(images, 0.0) is images
    torch.manual_seed(1)
    torch.randint(1, (5, 2))
    expected = torch.rand(1)
    torch.manual_seed(1)
    torch.testing.assert_close(change_pictures(images, OFF), images)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("change", ["crop_area", "mirror_prob", "colour_jitter", "shift", "gray_scale_prob"])
def test_each_parameter_changes_pictures(change):
    images = torch.rand(8, 3, 16, 16)
    params = OFF.model_copy(update={change: 0.4})
    assert not torch.equal(change_pictures(images, params), images)
