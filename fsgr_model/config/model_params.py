"""The section `model` of params.yaml: the captioning network."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fsgr_model.config.section import Count, Fraction, Section

ResidualKind = Literal["post", "double", "pre"]
MemoryKind = Literal["none", "prototypes", "learned"]


class TailParams(Section):
    """What is trained inside CLIP's tail."""

    adapters: bool = Field(description="an adapter in each block of the tail (AIM, arXiv 2302.03024)")
    prompts: Annotated[int, Field(ge=0)] = Field(
        description="trained tokens in each block of the tail (VPT, arXiv 2203.12119); 0: none"
    )
    prompt_start: Literal["random", "patches"] = Field(
        description="prompts begin at random (VPT) or among the patches (SPT, arXiv 2402.02382)"
    )

    @model_validator(mode="after")
    def _something_is_trained(self) -> "TailParams":
        if not (self.adapters or self.prompts):
            raise ValueError("trains neither adapters nor prompts; set model.tail: null")
        return self


class PrototypeParams(Section):
    """PMA-Net's prototypes (arXiv 2308.12383, section 3.2)."""

    kind: Literal["prototypes"] = Field(description="keys and values are found by K-means during XE training")
    size: Count = Field(description="prototypes per layer")
    window: Count = Field(
        description="XE steps whose keys and values are kept; the first prototypes come after as many steps"
    )
    refresh: Count = Field(description="XE steps from one K-means to the next")
    neighbours: Count = Field(description="keys around a centroid that give its value")


class SlotParams(Section):
    """Slots of memory that are trained (M2, arXiv 1912.08226)."""

    kind: Literal["learned"] = Field(description="keys and values are weights of the network")
    size: Count = Field(description="slots per layer")


Memory = Annotated[PrototypeParams | SlotParams, Field(discriminator="kind")]


class ModelParams(Section):
    """The captioning network."""

    d_model: Count = Field(description="width of encoder and decoder")
    num_heads: Count = Field(description="attention heads")
    d_ff: Count = Field(description="hidden width of the feed-forward layers")
    encoder_layers: Count = Field(description="cross-modal encoder layers")
    decoder_layers: Count = Field(description="decoder layers")
    dropout: Fraction = Field(description="dropout everywhere in encoder and decoder")
    top_k: Count = Field(description="concepts that the quantiser keeps per image")
    patch_attention: bool = Field(
        False,
        description="encoder layers let patches attend to each other before they attend to the text grids",
    )
    inverse_frequency: bool = Field(
        False, description="divide a concept by its patch count + 1, as the reference copy does"
    )
    align: Literal["plain", "csa", "qk_kk", "value"] = Field(
        "csa",
        description="last tail block of the aligned features; same choices as labels.attention",
    )
    tail: TailParams | None = Field(
        None, description="what is trained inside CLIP's tail; null: nothing, CLIP stays as it is"
    )
    semantics: bool = Field(
        True,
        description="false: no codebook and no quantiser, patches attend only to each other in the encoder; "
        "this is the baseline without the semantic quantiser",
    )
    residual: ResidualKind = Field(
        "post",
        description="norm after the sum, sum and norm twice (the reference copy), or norm before the layer",
    )
    memory: Memory | None = Field(
        None, description="what the decoder's self-attention sees besides the words; null: nothing"
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ModelParams":
        if self.d_model % self.num_heads or self.d_model % 4:
            raise ValueError(
                f"d_model {self.d_model} must be a multiple of 4 and of num_heads {self.num_heads}"
            )
        return self
