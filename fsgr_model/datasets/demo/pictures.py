"""Draws the picture of a scene and the mask of each thing."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from fsgr_model.datasets.demo.backdrops import paint_backdrop
from fsgr_model.datasets.demo.drawing import Pen, tones_of
from fsgr_model.datasets.demo.scenes import Scene, Thing
from fsgr_model.datasets.demo.sprites import SPRITES
from fsgr_model.datasets.demo.world_file import ImageSpec

Mask = np.ndarray  # bool [height, width]


@dataclass(frozen=True)
class Picture:
    """RGB image and masks of the things in the scene's order: whole (ignoring occlusion) and visible."""

    image: Image.Image
    whole: list[Mask]
    visible: list[Mask]
    background: Mask


def draw_scene(scene: Scene, spec: ImageSpec, rng: np.random.Generator) -> Picture:
    """Draw at `supersampling` times the size, from back to front, and average down."""
    canvas = paint_backdrop(
        scene.background, scene.weather, scene.horizon, spec.side * spec.supersampling, rng=rng
    )
    whole = [_draw_thing(canvas, scene, thing, spec) for thing in scene.things]
    free = np.ones((spec.side, spec.side), dtype=bool)
    visible: list[Mask] = []
    for mask in reversed(whole):
        visible.insert(0, mask & free)
        free = free & ~mask
    return Picture(canvas.reduce(spec.supersampling), whole, visible, free)


def _draw_thing(canvas: Image.Image, scene: Scene, thing: Thing, spec: ImageSpec) -> Mask:
    sprite = _sprite(scene.groups[thing.group].kind, thing, round(thing.side * canvas.width))
    raster = spec.raster * spec.supersampling
    left = _on_raster(thing.x * canvas.width - sprite.width / 2, raster, canvas.width - sprite.width)
    top = _on_raster(thing.foot * canvas.width - sprite.height, raster, canvas.height - sprite.height)
    if thing.stands:
        _shadow(canvas, left, top, sprite)
    canvas.paste(sprite, (left, top), sprite)
    alpha = Image.new("L", canvas.size)
    alpha.paste(sprite.getchannel("A"), (left, top))
    return np.asarray(alpha.reduce(spec.supersampling)) >= 128


def _on_raster(place: float, raster: int, largest: int) -> int:
    """The nearest multiple of `raster` from 0 to `largest`."""
    return min(max(round(place / raster), 0), largest // raster) * raster


def _sprite(kind: str, thing: Thing, side: int) -> Image.Image:
    """The drawing on a transparent ground, tilted, mirrored, lit from above and cut to what is drawn."""
    tones = tones_of(thing.rgb)
    image = Image.new("RGBA", (side, side), (*tones.ink, 0))
    SPRITES[kind](Pen(image, tones.ink), tones)
    if thing.mirrored:
        image = ImageOps.mirror(image)
    image = image.rotate(thing.tilt, Image.Resampling.BILINEAR, expand=True, fillcolor=(*tones.ink, 0))
    image = image.crop(image.getchannel("A").getbbox())
    return _lit(image)


def _lit(sprite: Image.Image) -> Image.Image:
    """A little lighter at the upper left, a little darker at the lower right: the thing looks round."""
    pixels = np.asarray(sprite)
    down, right = np.linspace(0, 1, sprite.height)[:, None], np.linspace(0, 1, sprite.width)[None, :]
    light = np.ones(pixels.shape, dtype=np.float32)
    light[:, :, :3] = (1.12 - 0.26 * (0.65 * down + 0.35 * right)).astype(np.float32)[:, :, None]
    lit = np.multiply(pixels, light, out=light)
    return Image.fromarray(np.minimum(lit, 255, out=lit).astype(np.uint8))


def _shadow(canvas: Image.Image, left: int, top: int, sprite: Image.Image) -> None:
    """Draw a soft dark ellipse on the ground; it belongs to the background, so to no thing's mask."""
    height = max(4, sprite.width // 6)
    pen = Pen(Image.new("L", (64, 64)), (0,))
    pen.ellipse((0.5, 0.5), (0.48, 0.48), fill=(70,), outline=False)
    # Width before height: in one call, Pillow 13 rounds another way than those before it.
    wide = pen.image.resize((sprite.width, 64), Image.Resampling.BILINEAR)
    shade = wide.resize((sprite.width, height), Image.Resampling.BILINEAR)
    canvas.paste((30, 30, 50), (left, top + sprite.height - height // 2), shade)
