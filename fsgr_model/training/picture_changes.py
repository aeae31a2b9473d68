"""Random changes of the pictures of a step, so that a CLIP trained on few of them learns what they show.

Random numbers come from torch's global generator on the CPU, the same ones for every device; where processes
share batches they belong to the image (`ImageDraws`). A change that is switched off draws none, but for the
shift, which always did.

Shapes: B pictures, channels C, height H, width W.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from fsgr_model.config.params import ClipTrainingParams
from fsgr_model.training.image_draws import ImageDraws

# The sides of a crop differ by up to this factor, as in torchvision's `RandomResizedCrop`.
LARGEST_RATIO = 4 / 3


def change_pictures(images: Tensor, params: ClipTrainingParams, draws: ImageDraws | None = None) -> Tensor:
    """The pictures [B, C, H, W] with all changes that are switched on.

    `draws`: what draws by image, where processes share batches.
    """
    images = crop_and_mirror(images, area=params.crop_area, mirror=params.mirror_prob, draws=draws)
    images = change_colours(move(images, params.shift, draws), params.colour_jitter, draws)
    return drop_colours(images, params.gray_scale_prob, draws)


def crop_and_mirror(images: Tensor, *, area: float, mirror: float, draws: ImageDraws | None = None) -> Tensor:
    """Of each picture a part, at least the share `area` of it, drawn out to the whole size, and mirrored with
    probability `mirror`.
    """
    if area == 1 and mirror == 0:
        return images
    count = len(images)
    log_side_B = (area + (1 - area) * _uniform(count, 1, draws)[:, 0]).log() / 2
    # A part that fits into the picture.
    log_stretch_B = (math.log(LARGEST_RATIO) / 2 * _both_ways(count, 1, draws)[:, 0]).clamp(
        log_side_B, -log_side_B
    )
    width_B, height_B = (log_side_B + log_stretch_B).exp(), (log_side_B - log_stretch_B).exp()
    direction_B = 1 - 2 * (_uniform(count, 1, draws)[:, 0] < mirror).float()
    # Places of the pixels of the part, from -1 to 1 across the picture: a scale and a middle for each axis.
    middle_B2 = torch.cat([_both_ways(count, 1, draws) for _ in range(2)], dim=1)
    part_B23 = torch.zeros(count, 2, 3, device=middle_B2.device)
    part_B23[:, 0, 0], part_B23[:, 0, 2] = width_B * direction_B, (1 - width_B) * middle_B2[:, 0]
    part_B23[:, 1, 1], part_B23[:, 1, 2] = height_B, (1 - height_B) * middle_B2[:, 1]
    grid = F.affine_grid(part_B23.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)


def move(images: Tensor, shift: float, draws: ImageDraws | None = None) -> Tensor:
    """Each picture shifted by up to `shift` of its side, at random; its border fills the gap."""
    most = round(shift * images.shape[-1])
    places = 2 * most + 1
    if draws is None:
        corner_B2 = torch.randint(places, (len(images), 2))
    else:
        corner_B2 = (draws.uniform(2) * places).long()
    if most == 0:
        return images
    height, width = images.shape[-2:]
    padded = F.pad(images, (most,) * 4, mode="replicate")
    moved = torch.empty_like(images)
    for picture, whole, (y, x) in zip(moved, padded, corner_B2.tolist(), strict=True):
        picture.copy_(whole[:, y : y + height, x : x + width])
    return moved


def change_colours(images: Tensor, most: float, draws: ImageDraws | None = None) -> Tensor:
    """Contrast and saturation of each picture times up to 1 ± `most`; brightness moved by as much, and each
    channel by a third of it, in units of normalised pixels.
    """
    if most == 0:
        return images
    count, channels = images.shape[:2]
    contrast, saturation, brightness = (
        (most * _both_ways(count, 1, draws)[..., None, None]).to(images) for _ in range(3)
    )
    tint = (most / 3 * _both_ways(count, channels, draws)[..., None, None]).to(images)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * (1 + contrast)
    grey = images.mean(dim=1, keepdim=True)
    return grey + (images - grey) * (1 + saturation) + brightness + tint


def drop_colours(images: Tensor, chance: float, draws: ImageDraws | None = None) -> Tensor:
    """Each picture turned grey with probability `chance` (open_clip's `gray_scale_prob`), so that an object
    that was never seen in some colour is still recognised by its shape.
    """
    if chance == 0:
        return images
    grey = (_uniform(len(images), 1, draws) < chance)[..., None, None]
    return torch.where(grey.to(images.device), images.mean(dim=1, keepdim=True), images)


def _uniform(images: int, count: int, draws: ImageDraws | None) -> Tensor:
    """Numbers from 0 to 1, [B, count]."""
    return torch.rand(images, count) if draws is None else draws.uniform(count)


def _both_ways(images: int, count: int, draws: ImageDraws | None) -> Tensor:
    """Numbers from -1 to 1, [B, count]."""
    return 2 * _uniform(images, count, draws) - 1
