"""Small trained projections into a space where encoded patches and text meet; used in XE training only.

Shapes: D d_model, E joint width of CLIP.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIRST_TEMPERATURE, LEAST_TEMPERATURE = 0.07, 0.01


class AlignmentHead(nn.Module):
    """One level: a projection of the image side, one of the text side, and a learned temperature.

    As in CLIP (arXiv 2103.00020, section 2.5) the logarithm of 1 / temperature is learned, from 0.07 on and
    never below 0.01.
    """

    def __init__(self, d_model: int, joint_width: int) -> None:
        super().__init__()
        self.image = nn.Linear(d_model, joint_width)
        self.text = nn.Linear(joint_width, joint_width)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(FIRST_TEMPERATURE)))
        for side in (self.image, self.text):
            nn.init.xavier_uniform_(side.weight)
            nn.init.zeros_(side.bias)

    def project(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """[..., D] and [..., E] to two tensors of unit rows [..., E]."""
        return F.normalize(self.image(image), dim=-1), F.normalize(self.text(text), dim=-1)

    def scale(self) -> Tensor:
        """1 / temperature."""
        with torch.no_grad():
            # The parameter itself is clamped, so that it can decrease again.
            self.log_scale.clamp_(max=-math.log(LEAST_TEMPERATURE))
        return self.log_scale.exp()
