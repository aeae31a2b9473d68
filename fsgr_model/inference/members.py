"""Exported networks that choose words together with this project's own, in the stage `captions`.

A member whose CLIP is cut and rounded like this project's reads the cached features; any other looks at the
pictures through its own CLIP.

Shapes: B images, T trunk tokens, W vision width.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from fsgr_model.clip.image_reading import check_files, read_batches
from fsgr_model.clip.token_cache import read_tokens, round_tokens
from fsgr_model.clip.towers import make_trunk
from fsgr_model.datasets.normal_form import ImageRecord
from fsgr_model.inference.captioning import Member
from fsgr_model.inference.mean_probability import refuse_other_words
from fsgr_model.kernels.inference import speed_up_inference
from fsgr_model.network.assembly import WEIGHTS, Parts, restore
from fsgr_model.runtime.device import pick_device, tf32_products
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed
from fsgr_model.runtime.row_store import RowStore
from fsgr_model.text.vocabulary import Vocabulary


def member_files(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The weights of members by name, in the order of `names`.

    Raises:
        UserError: `folder` lacks one.
    """
    files = {name: folder / name / WEIGHTS for name in names}
    if missing := [name for name, file in files.items() if not file.is_file()]:
        there = sorted(path.parent.name for path in folder.glob(f"*/{WEIGHTS}"))
        raise UserError(
            f"ensemble: {folder} has no network {listed(missing)}; it has {listed(there) or 'none'}. "
            f"In the project that trained it: fsgr export --out NAME, then put that folder into {folder}"
        )
    return files


def read_members(
    files: Mapping[str, Path], features: RowStore, images: Sequence[ImageRecord], words: Vocabulary
) -> list[Member]:
    """The networks of `member_files`, ready to caption `images`, whose cached features are `features`.

    Raises:
        UserError: a file is missing or damaged, a network has other words, or a picture has changed.
    """
    members = []
    for name, weights in files.items():
        restored = restore(weights.parent, weights.parent, pick_device())
        refuse_other_words(words, restored.assembly.vocabulary, f"member {name}")
        speed_up_inference(restored.assembly.captioner)
        cached = restored.parts.trunk == features.identity
        see: Callable[[Sequence[int]], Tensor] = (
            partial(read_tokens, features, device=restored.assembly.device)
            if cached
            else Pictures(restored.parts, images).tokens
        )
        members.append(Member(restored.assembly, see))
    return members


class Pictures:
    """Test images through the trunk of another CLIP than the cached features are of.

    Raises:
        UserError: a picture is missing or has another size than the manifest says.
    """

    def __init__(self, parts: Parts, images: Sequence[ImageRecord]) -> None:
        check_files(images)
        self.clip, self.cache_dtype = parts.clip, parts.cache_dtype
        self.trunk = make_trunk(parts.clip.model, parts.cut)
        speed_up_inference(self.trunk)
        self.images: Mapping[int, ImageRecord] = {image.image_id: image for image in images}

    @torch.inference_mode()
    def tokens(self, image_ids: Sequence[int]) -> Tensor:
        """Float32 [B, T, W], rounded as in the cache that the network was trained on.

        Raises:
            UserError: a picture has other bytes than the manifest says.
        """
        records = [self.images[number] for number in image_ids]
        ((_, images_BCHW),) = read_batches(records, self.clip.preprocess, batch=len(records), workers=0)
        device = next(self.trunk.parameters()).device
        with tf32_products(device):
            return round_tokens(self.trunk(images_BCHW.to(device)), self.cache_dtype)
