"""Weights that hold NaN give no caption instead of any."""

import math

import pytest
import torch

from fsgr_model.config.decode_params import DecodeParams
from fsgr_model.inference.captioning import caption_images
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_store import RowStore
from tests.worlds.captioner import assemble


def test_captions_without_a_finite_probability_are_refused(tiny_data, model_params):
    assembly = assemble(tiny_data, "test", model_params, 0)
    store = RowStore(tiny_data / "features" / "test.h5", {})
    decode = DecodeParams(beam_size=2, max_length=5)
    assert len(caption_images(assembly, store, store.image_ids, decode, precision="auto")) == 8
    with torch.no_grad():
        next(iter(assembly.captioner.trained_weights().values())).fill_(math.nan)
    with pytest.raises(UserError, match="captions of 8 of 8 images no finite probability"):
        caption_images(assembly, store, store.image_ids, decode, precision="auto")


def test_too_small_a_gpu_names_the_batch_that_fits(tiny_data, model_params, monkeypatch):
    assembly = assemble(tiny_data, "test", model_params, 0)
    store = RowStore(tiny_data / "features" / "test.h5", {})
    plain = type(assembly.captioner).encode

    def too_large(self, tokens_BTW):
        if len(tokens_BTW) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. GPU 0 has")
        return plain(self, tokens_BTW)

    monkeypatch.setattr(type(assembly.captioner), "encode", too_large)
    with pytest.raises(UserError, match=r"runtime.caption_batch: a step of 8 .* 4 fit, set runtime"):
        decode = DecodeParams(beam_size=2, max_length=5)
        caption_images(assembly, store, store.image_ids, decode, precision="auto")
