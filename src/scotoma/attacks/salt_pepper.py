"""Salt-and-pepper noise: the fewest random pixels set to black or white that fool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from scotoma.attacks.core.nearest import column
from scotoma.attacks.core.path_search import Paths
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class SaltPepper(Paths):
    """Sets a growing share of the pixels to black or white at random, as few as fool.

    A draw gives each pixel a rank and a colour, so that more noise contains less noise. The share
    is bisected (Schott et al. 2019 use Foolbox's, which draws anew at each share). Images that it
    does not fool are returned unchanged.

    Args:
        norm: "l0", "l1" or "l2", the norm to minimise; L0 counts only pixels that change.
        draws, persistence: as in `Paths`.

    >>> import torch
    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> SaltPepper("l0")(torch.nn.Flatten(), images, labels).argmax().item()
    1
    """

    id: ClassVar[str] = "salt-pepper"
    norms: ClassVar = ("l0", "l1", "l2")

    def draw(self, images: Tensor, random: Randomness, number: int) -> Tensor:
        return random.uniform(images[:, :1])

    def place(self, images: Tensor, drawn: Tensor, reach: Tensor) -> Tensor:
        half = column(reach) / 2
        return images.masked_fill(drawn < half, 0).masked_fill_(drawn >= 1 - half, 1)
