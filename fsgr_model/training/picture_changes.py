"""Random changes of the pictures of a step, so that a CLIP trained on few of them learns what they show.

Random numbers come from torch's global generator on the CPU, the same ones for every device. A change that is
switched off draws none.

Shapes: B pictures, channels C, height H, width W.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from fsgr_model.config.params import ClipTrainingParams

# The sides of a crop differ by up to this factor, as in torchvision's `RandomResizedCrop`.
LARGEST_RATIO = 4 / 3


def change_pictures(images: Tensor, params: ClipTrainingParams) -> Tensor:
    """The pictures [B, C, H, W] with all changes that are switched on."""
    cropped = crop_and_mirror(images, area=params.crop_area, mirror=params.mirror_prob)
    moved = move(cropped, params.shift)
    return drop_colours(change_colours(moved, params.colour_jitter), params.gray_scale_prob)


def crop_and_mirror(images: Tensor, *, area: float, mirror: float) -> Tensor:
    """Of each picture a part, at least the share `area` of it, drawn out to the whole size, and mirrored with
    probability `mirror`.
    """
    if area == 1 and mirror == 0:
        return images
    count = len(images)
    log_side_B = torch.empty(count).uniform_(area, 1).log() / 2
    # A part that fits into the picture.
    log_stretch_B = _up_to(math.log(LARGEST_RATIO) / 2, count).clamp(log_side_B, -log_side_B)
    width_B, height_B = (log_side_B + log_stretch_B).exp(), (log_side_B - log_stretch_B).exp()
    direction_B = 1 - 2 * (torch.rand(count) < mirror).float()
    # Places of the pixels of the part, from -1 to 1 across the picture: a scale and a middle for each axis.
    part_B23 = torch.zeros(count, 2, 3)
    part_B23[:, 0, 0], part_B23[:, 0, 2] = width_B * direction_B, (1 - width_B) * _up_to(1, count)
    part_B23[:, 1, 1], part_B23[:, 1, 2] = height_B, (1 - height_B) * _up_to(1, count)
    grid = F.affine_grid(part_B23.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)


def move(images: Tensor, shift: float) -> Tensor:
    """Each picture shifted by up to `shift` of its side, at random; its border fills the gap."""
    most = round(shift * images.shape[-1])
    height, width = images.shape[-2:]
    padded = F.pad(images, (most,) * 4, mode="replicate")
    corners = torch.randint(2 * most + 1, (len(images), 2)).tolist()
    return torch.stack(
        [p[:, y : y + height, x : x + width] for p, (y, x) in zip(padded, corners, strict=True)]
    )


def change_colours(images: Tensor, most: float) -> Tensor:
    """Contrast and saturation of each picture times up to 1 ± `most`; brightness moved by as much, and each
    channel by a third of it, in units of normalised pixels.
    """
    if most == 0:
        return images
    shape = (len(images), 1, 1, 1)
    contrast, saturation = (1 + _up_to(most, *shape).to(images) for _ in range(2))
    brightness = _up_to(most, *shape) + _up_to(most / 3, len(images), images.shape[1], 1, 1)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    grey = images.mean(dim=1, keepdim=True)
    return grey + (images - grey) * saturation + brightness.to(images)


def drop_colours(images: Tensor, chance: float) -> Tensor:
    """Each picture turned grey with probability `chance` (open_clip's `gray_scale_prob`), so that an object
    that was never seen in some colour is still recognised by its shape.
    """
    if chance == 0:
        return images
    grey = torch.rand(len(images), 1, 1, 1) < chance
    return torch.where(grey.to(images.device), images.mean(dim=1, keepdim=True), images)


def _up_to(most: float, *shape: int) -> Tensor:
    """Uniform numbers from -most to most."""
    return (2 * torch.rand(*shape) - 1) * most
