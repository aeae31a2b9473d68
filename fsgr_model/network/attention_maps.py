"""The decoder's attention to the image, recorded beside the normal computation.

The decoder attends with PyTorch's fused kernels, which return no weights. Here hooks read the inputs of its
attention to the image and compute the weights again; without the hooks nothing is slower.

Shapes: B images, Q = S * L words of an image's captions, G patches, H heads, C width per head.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from fsgr_model.network.attention import MultiHeadAttention
from fsgr_model.network.decoder import CaptionDecoder, DecoderLayer


@contextmanager
def recorded_image_attention(decoder: CaptionDecoder) -> Iterator[list[Tensor]]:
    """A list to which every layer adds its weights [B, H, Q, G] while the block runs."""
    recorded: list[Tensor] = []

    def listen(attention: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(attention, MultiHeadAttention)
        recorded.append(attention_weights(attention, inputs[0], inputs[1]))

    layers = cast(list[DecoderLayer], list(decoder.layers))
    hooks = [layer.image_attention.register_forward_pre_hook(listen) for layer in layers]
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()


def attention_weights(attention: MultiHeadAttention, query_BQD: Tensor, keys_BHGC: Tensor) -> Tensor:
    """softmax(query . key / sqrt(C)) over the patches, [B, H, Q, G] float32."""
    query_BHQC = attention.split_heads(attention.query(query_BQD)).float()
    logits_BHQG = query_BHQC @ keys_BHGC.float().transpose(2, 3) / query_BHQC.shape[-1] ** 0.5
    return torch.softmax(logits_BHQG, dim=-1)
