"""How the cache holds the tokens of an image: as float16, or as 8-bit codes with a scale per token.

A row of the cache, by `clip.cache_dtype`:
- float16: the tokens, [T, W];
- int8: of each token the W codes, then its float16 scale as two bytes, [T, W + 2].

Whoever reads the cache gets float32 tokens from `unpack_tokens`, on the device: rows are copied as they are.
A picture that is not cached passes `round_tokens`, which gives the same numbers.

Shapes: B images, T tokens, W vision width.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_store import RowFormat, RowStore

CacheDtype = Literal["float16", "int8"]
LARGEST_CODE = 127
SCALE_BYTES = 2


def quantise(tokens_BTW: Tensor) -> tuple[Tensor, Tensor]:
    """Codes [B, T, W] int8 and scales [B, T] float16 of float32 or float16 tokens.

    The scale of a token is its largest absolute value / 127, its codes are the nearest whole multiples: the
    token-wise scheme of ZeroQuant (arXiv 2206.01861, section 4.1), symmetric about zero. For a value x with
    code c and scale s, |x - s c| <= s (1/2 + 2^-17) + 2^-18; the second term only matters for tokens whose
    values are all below 0.008, where float16 scales become coarse. Zeros stay zeros.

    A token that holds NaN, infinity or a value beyond 127 x 65504 gets a scale that is not finite
    (`refuse_unfinite`).
    """
    tokens_BTW = tokens_BTW.float()
    scale_BT = (tokens_BTW.abs().amax(dim=-1) / LARGEST_CODE).half()
    divisor_BT = torch.where(scale_BT > 0, scale_BT, 1).float()
    codes_BTW = (tokens_BTW / divisor_BT[..., None]).round_().clamp_(-LARGEST_CODE, LARGEST_CODE)
    return codes_BTW.to(torch.int8), scale_BT


def dequantise(codes_BTW: Tensor, scale_BT: Tensor) -> Tensor:
    """The float32 tokens [B, T, W] that codes and scales stand for; exact, since s c has at most 18 bits."""
    scale_BT1 = scale_BT.float()[..., None]
    if codes_BTW.device.type != "cpu":
        return codes_BTW * scale_BT1
    # On a CPU, PyTorch multiplies int8 by float32 several times as slowly as it makes these two passes.
    # NumPy's memory has large pages.
    tokens_BTW = torch.from_numpy(np.empty(codes_BTW.shape, dtype=np.float32))
    return tokens_BTW.copy_(codes_BTW).mul_(scale_BT1)


def pack_tokens(tokens_BTW: Tensor, cache_dtype: CacheDtype) -> Tensor:
    """Rows of the cache, on the device of the tokens: [B, T, W] float16, or [B, T, W + 2] int8."""
    if cache_dtype == "float16":
        return tokens_BTW.half()
    codes_BTW, scale_BT = quantise(tokens_BTW)
    return torch.cat([codes_BTW, scale_BT[..., None].view(torch.int8)], dim=-1)


def unpack_tokens(rows: Tensor) -> Tensor:
    """Float32 tokens [B, T, W] of rows of the cache, on their device."""
    if rows.dtype != torch.int8:
        return rows.float()
    scale_BT = rows[..., -SCALE_BYTES:].contiguous().view(torch.float16)[..., 0]
    return dequantise(rows[..., :-SCALE_BYTES], scale_BT)


def round_tokens(tokens_BTW: Tensor, cache_dtype: CacheDtype) -> Tensor:
    """Float32 tokens as they would come back from the cache."""
    return unpack_tokens(pack_tokens(tokens_BTW, cache_dtype))


def refuse_unfinite(image_ids: Sequence[int], rows: np.ndarray) -> None:
    """Refuse rows of images whose tokens the cache cannot hold.

    Raises:
        UserError: the tokens of an image hold NaN or infinity, or overflow in the cache.
    """
    numbers = rows if rows.dtype == np.float16 else rows[..., -SCALE_BYTES:].copy().view(np.float16)
    for image_id, of_image in zip(image_ids, numbers, strict=True):
        if not np.isfinite(of_image).all():
            raise UserError(
                f"features of image {image_id} hold NaN or values beyond {rows.dtype} (clip.cache_dtype); "
                "the weights of CLIP are broken, or clip.cut needs another block"
            )


def token_format(token_shape: tuple[int, int], cache_dtype: CacheDtype) -> RowFormat:
    """The rows of a file of tokens of the shape (T, W)."""
    T, W = token_shape
    return RowFormat("tokens", (T, W if cache_dtype == "float16" else W + SCALE_BYTES), cache_dtype)


def token_shape(store: RowStore) -> tuple[int, int]:
    """(T, W) of an image's tokens in a file."""
    T, columns = store.row_shape
    return T, columns - (SCALE_BYTES if store.dtype == np.int8 else 0)


def read_tokens(store: RowStore, image_ids: Sequence[int], device: torch.device) -> Tensor:
    """Float32 tokens [B, T, W] of these images, on the device."""
    return unpack_tokens(torch.from_numpy(store.rows(image_ids)).to(device))


def trunk_identity(
    clip_identity: dict[str, Any], cut: int, cache_dtype: CacheDtype = "float16"
) -> dict[str, Any]:
    """What cached tokens depend on. float16 goes unnamed, as in caches that are older than the choice."""
    rounding = {} if cache_dtype == "float16" else {"cache_dtype": cache_dtype}
    return {**clip_identity, "cut": cut, **rounding}


def cache_dtype_of(trunk: Mapping[str, Any]) -> CacheDtype:
    """The rounding that a `trunk_identity` names.

    Raises:
        UserError: it is one that this version does not know.
    """
    found = trunk.get("cache_dtype", "float16")
    if found not in get_args(CacheDtype):
        raise UserError(
            f"features with cache_dtype {found!r} were made by another version of this project, this one "
            f"knows {', '.join(get_args(CacheDtype))}; update the project, or run dvc repro"
        )
    return found


def open_of_trunk(path: Path, trunk: dict[str, Any], below: int | None = None) -> RowStore:
    """The tokens of a trunk, or label maps made from them; `trunk` begins with its whole `trunk_identity`.

    Raises:
        UserError: as `RowStore`, also where only the rounding differs.
    """
    store = RowStore(path, {key: value for key, value in trunk.items() if key != "cache_dtype"}, below)
    found, needed = cache_dtype_of(store.identity), cache_dtype_of(trunk)
    if found != needed:
        raise UserError(
            f"{path} was made with another cache_dtype: the file says {found!r}, this run needs {needed!r}; "
            "run dvc repro, or use files that belong together"
        )
    return store
