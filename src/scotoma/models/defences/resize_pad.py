"""Images shrunk and padded at random."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.defences.base import Defence


class ResizePad(Defence):
    """Shrinks the images to a random size and pads them with zeros at a random place.

    The authors enlarge images of 299 pixels to at most 331. Here the size after padding is that of
    the images, so that any network can follow. One draw serves the whole batch, as in their code.

    Source: Xie, Wang, Zhang, Ren and Yuille 2018, "Mitigating adversarial effects through
    randomization".
    Broken by: Athalye, Carlini and Wagner 2018, "Obfuscated gradients give a false sense of
    security" (expectation over transformation).

    >>> ResizePad(nn.Identity())(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(self, network: nn.Module, least: float = 0.9):
        super().__init__(network)
        self.least = least

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        scale = self.least + (1 - self.least) * float(torch.rand(()))
        h, w = max(1, round(scale * height)), max(1, round(scale * width))
        small = F.interpolate(images, size=(h, w), mode="bilinear", align_corners=False)
        top = int(torch.randint(height - h + 1, ()))
        left = int(torch.randint(width - w + 1, ()))
        return self.network(F.pad(small, (left, width - w - left, top, height - h - top)))
