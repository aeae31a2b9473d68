"""The rounding of cached tokens: its error bound, its bytes, the same numbers with and without the cache."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fsgr_model.clip.token_cache import (
    CacheDtype,
    cache_dtype_of,
    dequantise,
    open_of_trunk,
    pack_tokens,
    quantise,
    read_tokens,
    refuse_unfinite,
    round_tokens,
    token_format,
    token_shape,
    trunk_identity,
    unpack_tokens,
)
from fsgr_model.clip.towers import make_tail, make_trunk
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_cache import Place, open_rows
from fsgr_model.runtime.row_store import RowFormat, RowStore, RowWriter
from fsgr_model.training.batches import CaptionedImages
from tests.worlds.towers import images_for, small_tower

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
DTYPES: tuple[CacheDtype, ...] = ("float16", "int8")
IDS = [40, 7, 123456789012, 8]
CLIP = {"weights": "abc"}


def tokens_of(seed: int = 0, size: float = 1.0) -> Tensor:
    """Tokens [4, 5, 12] with a zero, a constant, a tiny and a large token, and one large channel."""
    draw = torch.Generator().manual_seed(seed)
    tokens_BTW = size * torch.randn(4, 5, 12, generator=draw)
    tokens_BTW[..., 3] *= 20
    tokens_BTW[0, 0], tokens_BTW[0, 1], tokens_BTW[1, 2], tokens_BTW[3, 4] = 0, -0.3, 1e-9, 6e4
    return tokens_BTW


def write(path: Path, tokens_BTW: Tensor, cache_dtype: CacheDtype) -> RowStore:
    identity = trunk_identity(CLIP, 6, cache_dtype)
    with RowWriter(path, token_format((5, 12), cache_dtype), IDS, identity) as writer:
        writer.write(IDS, pack_tokens(tokens_BTW, cache_dtype).numpy())
    return open_of_trunk(path, identity)


@given(
    seed=st.integers(0, 2**32),
    exponent=st.floats(-10, 6.5),
    spread=st.floats(0, 3),
    dtype=st.sampled_from([torch.float32, torch.float16]),
)
def test_no_value_is_off_by_more_than_the_bound(
    seed: int, exponent: float, spread: float, dtype: torch.dtype
) -> None:
    """Half a step, and 2^-18 where the scale itself is coarse; from 1e-10 to 3e6, with outliers."""
    draw = torch.Generator().manual_seed(seed)
    shape = (2, 3, 16)
    tokens_BTW = torch.randn(shape, generator=draw) * 10 ** (spread * torch.randn(shape, generator=draw))
    largest_BT1 = tokens_BTW.abs().amax(dim=-1, keepdim=True)
    tokens_BTW = (tokens_BTW / largest_BT1 * 10**exponent).to(dtype)
    if dtype == torch.float16:
        tokens_BTW.clamp_(-65504, 65504)
    codes_BTW, scale_BT = quantise(tokens_BTW)
    assert codes_BTW.dtype == torch.int8 and scale_BT.dtype == torch.float16
    exact, step = tokens_BTW.double(), scale_BT.double()[..., None]
    assert ((exact - step * codes_BTW).abs() <= step * (0.5 + 2**-17) + 2**-18).all()
    largest_BT1 = exact.abs().amax(dim=-1, keepdim=True)
    assert (step <= largest_BT1 / 127 * (1 + 2**-10) + 2**-25).all(), "no coarser than it must be"
    assert torch.equal(dequantise(codes_BTW, scale_BT).double(), step * codes_BTW)


@given(seed=st.integers(0, 2**32), exponent=st.floats(-1.5, 4))
def test_what_was_rounded_stays_as_it_is(seed: int, exponent: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    once = round_tokens(10**exponent * torch.randn(2, 3, 16, generator=draw), "int8")
    assert torch.equal(round_tokens(once, "int8"), once)


def test_zeros_and_constants() -> None:
    rounded_TW = round_tokens(tokens_of(), "int8")[0]
    assert not rounded_TW[0].any()
    assert len(rounded_TW[1].unique()) == 1 and rounded_TW[1, 0].item() == pytest.approx(-0.3, rel=2**-11)


@pytest.mark.parametrize("shape", [(197, 768), (257, 1024)])
def test_bytes_of_clips_of_the_presets(shape: tuple[int, int]) -> None:
    """ViT-B/16 and ViT-L/14: at most 0.51 of float16."""
    rows = {kind: pack_tokens(torch.zeros(1, *shape), kind) for kind in DTYPES}
    for kind, row in rows.items():
        assert row.nbytes == token_format(shape, kind).bytes
        assert (tuple(row.shape[1:]), str(row.numpy().dtype)) == (token_format(shape, kind).shape, kind)
    assert rows["int8"].nbytes <= 0.51 * rows["float16"].nbytes


@pytest.mark.parametrize("cache_dtype", DTYPES)
@pytest.mark.parametrize("place", ["ram", "disk"])
def test_a_batch_has_the_rounded_tokens_from_every_place(
    tmp_path: Path, place: Place, cache_dtype: CacheDtype
) -> None:
    """Row by row what a picture without a cache gets, to the bit."""
    store = write(tmp_path / "train.h5", tokens_of(), cache_dtype)
    images = CaptionedImages(store, {image_id: [[2, 9, 3]] for image_id in IDS})
    images.tokens = open_rows(store, place, CPU)
    batch = images.batch([8, 40])
    expected_BTW = round_tokens(tokens_of(), cache_dtype)[[3, 0]]
    assert batch.tokens_BTW.nbytes == 2 * store.row_bytes
    assert torch.equal(batch.to(CPU).tokens_BTW, expected_BTW)
    assert torch.equal(batch.to(CPU).to(CPU).piece(0, end=1).tokens_BTW, expected_BTW[:1])
    assert torch.equal(read_tokens(store, [8, 40], CPU), expected_BTW)
    assert token_shape(store) == (5, 12)


@pytest.mark.parametrize("cache_dtype", DTYPES)
@pytest.mark.parametrize(
    ("kind", "cut", "shape", "patches"),
    [
        ("timm, attention pool (SigLIP)", 1, (16, 32), 16),
        ("timm, ConvNeXt", 1, (256, 8), 4),
        ("timm, ConvNeXt", 3, (16, 16), 4),
        ("timm, Swin", 2, (64, 16), 4),
    ],
)
@torch.inference_mode()
def test_towers_without_a_class_token(
    tmp_path: Path, kind: str, cut: int, shape: tuple[int, int], patches: int, *, cache_dtype: CacheDtype
) -> None:
    """Each position is rounded by its own scale, the first one too; G is that of the last map, whatever T."""
    model = small_tower(kind)
    trunk, tail = make_trunk(model, cut), make_tail(model, cut, "value")
    exact_BTW = trunk(images_for(kind))
    assert tuple(exact_BTW.shape[1:]) == trunk.token_shape == shape
    identity = trunk_identity(CLIP, cut, cache_dtype)
    with RowWriter(tmp_path / "a.h5", token_format(shape, cache_dtype), IDS[:2], identity) as writer:
        writer.write(IDS[:2], pack_tokens(exact_BTW, cache_dtype).numpy())
    store = open_of_trunk(tmp_path / "a.h5", identity)
    assert token_shape(store) == shape and store.dtype == cache_dtype
    found_BTW = read_tokens(store, IDS[:2], CPU)
    assert torch.equal(found_BTW, round_tokens(exact_BTW, cache_dtype))
    half_step_BT1 = exact_BTW.abs().amax(dim=-1, keepdim=True) / 127 / 2
    assert ((found_BTW - exact_BTW).abs() <= 1.01 * half_step_BT1).all()
    assert not torch.equal(found_BTW, exact_BTW), "something was rounded"
    seen, cached = tail(round_tokens(exact_BTW, cache_dtype)), tail(found_BTW)
    assert cached.grid_BGW.shape == (2, patches, tail.width) and torch.equal(cached.grid_BGW, seen.grid_BGW)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("place", ["gpu", "ram", "disk"])
def test_a_gpu_rounds_as_the_cpu_does(tmp_path: Path, place: Place) -> None:
    tokens_BTW = tokens_of()
    assert torch.equal(pack_tokens(tokens_BTW.cuda(), "int8").cpu(), pack_tokens(tokens_BTW, "int8"))
    store = write(tmp_path / "train.h5", tokens_BTW, "int8")
    images = CaptionedImages(store, {image_id: [[2, 9, 3]] for image_id in IDS})
    images.tokens = open_rows(store, place, CUDA)
    found_BTW = images.batch(IDS).to(CUDA).tokens_BTW
    assert torch.equal(found_BTW.cpu(), round_tokens(tokens_BTW, "int8"))


@pytest.mark.parametrize("cache_dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e7])
def test_values_that_the_cache_cannot_hold_name_the_image(value: float, cache_dtype: CacheDtype) -> None:
    tokens_BTW = tokens_of()
    refuse_unfinite(IDS, pack_tokens(tokens_BTW, cache_dtype).numpy())
    tokens_BTW[1, 2, 3] = value
    with pytest.raises(UserError, match=rf"image 7 hold NaN or values beyond {cache_dtype} "):
        refuse_unfinite(IDS, pack_tokens(tokens_BTW, cache_dtype).numpy())


def test_int8_holds_values_beyond_float16() -> None:
    rows = pack_tokens(torch.full((1, 2, 4), 5e6), "int8")
    refuse_unfinite([1], rows.numpy())
    torch.testing.assert_close(unpack_tokens(rows), torch.full((1, 2, 4), 5e6), rtol=2**-11, atol=0)


def test_float16_is_the_rounding_of_caches_that_name_none() -> None:
    """Files of earlier versions stay valid, and those of float16 keep their bytes."""
    assert trunk_identity(CLIP, 6) == trunk_identity(CLIP, 6, "float16") == {**CLIP, "cut": 6}
    assert trunk_identity(CLIP, 6, "int8") == {**CLIP, "cut": 6, "cache_dtype": "int8"}
    assert [cache_dtype_of(trunk_identity(CLIP, 6, kind)) for kind in DTYPES] == list(DTYPES)


def test_a_rounding_of_another_version_is_refused() -> None:
    with pytest.raises(UserError, match=r"cache_dtype 'int4' were made by another version .* float16, int8"):
        cache_dtype_of({**CLIP, "cut": 6, "cache_dtype": "int4"})


@pytest.mark.parametrize(("there", "needed"), [DTYPES, DTYPES[::-1]])
def test_files_of_another_rounding_are_refused_in_one_line(
    tmp_path: Path, there: CacheDtype, needed: CacheDtype
) -> None:
    """The tokens, and label maps that were made from them."""
    write(tmp_path / "tokens.h5", tokens_of(), there)
    made_with = {**trunk_identity(CLIP, 6, there), "codebook": "x"}
    with RowWriter(tmp_path / "labels.h5", RowFormat("labels", (4,), "uint16"), [1], made_with) as writer:
        writer.write([1], np.zeros((1, 4), np.uint16))
    for name in ("tokens.h5", "labels.h5"):
        with pytest.raises(UserError, match="made with another cache_dtype") as caught:
            open_of_trunk(tmp_path / name, trunk_identity(CLIP, 6, needed))
        assert f"the file says '{there}', this run needs '{needed}'" in str(caught.value)
        assert "\n" not in str(caught.value)
