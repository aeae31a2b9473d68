"""The whole network: tail of CLIP, quantiser, cross-modal encoder, decoder.

Shapes: B images, S captions per image, L positions, T cached tokens, G patches, W vision width,
E joint width, D d_model, K concepts, V words.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from fsgr_model.clip.towers import AnyTail
from fsgr_model.config.model_params import ModelParams
from fsgr_model.network.decoder import CaptionDecoder, DecoderState
from fsgr_model.network.encoder import CrossModalEncoder
from fsgr_model.network.quantiser import SemanticQuantiser
from fsgr_model.network.tuned_tail import tuned


@dataclass(frozen=True)
class Encoded:
    """An encoded batch: where the decoder starts, and what it was made from.

    `visual_BGD`: the embedded patches before any text; `image_BGD`: the encoder's output; `concept_BG`: the
    concept of every patch, int64; None without `model.semantics`, and a caller that needs them must check.
    """

    start: DecoderState
    visual_BGD: Tensor
    image_BGD: Tensor
    concept_BG: Tensor | None


class Captioner(nn.Module):
    """FSGR on the cached trunk of CLIP. The tail's own weights belong to CLIP, are frozen and are not saved.

    `codebook_KE` is None exactly if `params.semantics` is off.
    """

    def __init__(
        self, tail: AnyTail, side: int, codebook_KE: Tensor | None, word_VE: Tensor, *, params: ModelParams
    ) -> None:
        super().__init__()
        assert (codebook_KE is not None) == params.semantics
        self.tail = tuned(tail, params)
        self.quantiser = (
            None
            if codebook_KE is None
            else SemanticQuantiser(
                codebook_KE, params.top_k, params.inverse_frequency, logit_scale=tail.logit_scale
            )
        )
        self.encoder = CrossModalEncoder(
            tail.width,
            joint_width=tail.joint_width,
            side=side,
            d_model=params.d_model,
            num_heads=params.num_heads,
            d_ff=params.d_ff,
            num_layers=params.encoder_layers,
            dropout=params.dropout,
            patch_attention=params.patch_attention,
            semantics=params.semantics,
            residual=params.residual,
        )
        self.decoder = CaptionDecoder(
            word_VE,
            d_model=params.d_model,
            num_heads=params.num_heads,
            d_ff=params.d_ff,
            num_layers=params.decoder_layers,
            dropout=params.dropout,
            residual=params.residual,
            memory=params.memory.kind if params.memory else "none",
            memory_size=params.memory.size if params.memory else 0,
        )
        for part in (self.encoder, self.decoder):
            _initialise_linear_layers(part)
        self.encoder.initialise_at_own_patch()

    def trained_weights(self) -> dict[str, nn.Parameter]:
        """The weights that training changes, by name."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint, by name: the trained weights and the current prototypes."""
        return {**self.trained_weights(), **self.decoder.state_dict(prefix="decoder.")}

    def encode(self, tokens_BTW: Tensor) -> Encoded:
        """Encode trunk tokens into the decoder's initial state; once per image, for all of its captions."""
        seen = self.tail(tokens_BTW)
        global_BE = F.normalize(seen.global_BE, dim=-1)
        text_BGE = concept_BG = None
        if self.quantiser is not None:
            quantised = self.quantiser(global_BE, F.normalize(seen.align_BGE, dim=-1))
            text_BGE, concept_BG = quantised.text_BGE, quantised.concept_BG
        visual_BGD = self.encoder.embed(seen.grid_BGW, global_BE)
        image_BGD = self.encoder(visual_BGD, text_BGE)
        start = self.decoder.start(image_BGD, self.encoder.position_GD)
        return Encoded(start, visual_BGD, image_BGD, concept_BG)

    def forward(self, tokens_BTW: Tensor, word_BSL: Tensor) -> Tensor:
        """Logits [B, S, L, V] of the word that follows each given word (teacher forcing)."""
        return self.decoder(word_BSL, self.encode(tokens_BTW).start)[0]

    def step(self, word_BS: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Read one more word of every caption: logits [B, S, V] and the new state. Fits `decoding.Step`."""
        logits_BS1V, state = self.decoder(word_BS[..., None], state)
        return logits_BS1V[..., 0, :], state


def _initialise_linear_layers(part: nn.Module) -> None:
    """Xavier for linear layers only: word vectors and position tables must survive."""
    for module in part.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
