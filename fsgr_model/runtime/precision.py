"""The number formats of matrix products, by their names in params.yaml; nothing of PyTorch is imported."""

from typing import Literal

Precision = Literal["auto", "bf16", "fp16", "float32"]
