"""A network that costs nothing: what it says of a picture is a function of its pixels."""

import os
import signal

import numpy as np
import torch
from PIL import Image

from fsgr_model.config.decode_params import DecodeParams
from fsgr_model.inference.describing import Caption, DescribedImage


class FreeCaptioner:
    """As `ImageCaptioner`, as far as a bulk run asks; `batch_size` pictures at once."""

    num_captions, seed, precision = 1, 0, "auto"

    def __init__(self, batch_size: int = 4, weight: float = 1.0) -> None:
        self.batch_size = batch_size
        self.decode = DecodeParams(beam_size=1, max_length=5)
        self.identity = {"name": "none"}
        self.concepts = ["wall"]
        network = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(network.weight, weight)
        torch.nn.init.zeros_(network.bias)
        self.weights = network.state_dict

    def prepare(self, picture: Image.Image) -> np.ndarray:
        return np.asarray(picture)[0, 0]

    def describe(self, images: list[np.ndarray]) -> list[DescribedImage]:
        return [
            DescribedImage([Caption(f"colour {'-'.join(map(str, pixel))}", [4], -0.5, ["x"], [0.6])], None)
            for pixel in images
        ]


class Killer(FreeCaptioner):
    """Ends its own process at the group of this number."""

    def __init__(self, group: int) -> None:
        super().__init__()
        self.left = group

    def describe(self, images: list[np.ndarray]) -> list[DescribedImage]:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().describe(images)
