"""A variational autoencoder for each class, in one grouped network (Schott et al. 2019)."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn

from scotoma.utils.errors import InputError

LATENT = 8
"""Dimensions of the latent space of each class."""


class Windows(NamedTuple):
    """(channels, window, stride) of the convolutions; the last of the decoder makes the image."""

    encoder: tuple[tuple[int, int, int], ...]
    decoder: tuple[tuple[int, int, int], ...]
    margin: int
    """Pixels of a side beyond `scale` times the decoder's first window."""
    scale: int


LARGE = Windows(
    ((32, 5, 1), (32, 4, 2), (64, 3, 2)), ((16, 5, 2), (16, 5, 2), (0, 4, 1)), margin=12, scale=4
)
"""The authors' windows for 28x28 pixels, which fit sides that are a multiple of 4."""
SMALL = Windows(((32, 3, 1), (64, 4, 2)), ((16, 4, 2), (0, 3, 1)), margin=4, scale=2)
"""Windows for sides of 8, 10, 12 and 14 pixels."""


class ClassVAEs(nn.Module):
    """An encoder to means and log variances of `LATENT` dimensions, and a decoder, for each class.

    They run as the groups of grouped convolutions: a batch (n, classes * c, h, w) has n images of
    each class, and classes do not mix, not even in batch statistics. 28x28 pixels are encoded by
    convolutions 32@5x5, 32@4x4/2, 64@3x3/2 and one over the rest, and decoded by transposed ones
    32@4x4, 16@5x5/2, 16@5x5/2 and 1@4x4, with batch normalisation and ELUs in between and a sigmoid
    at the end (the authors' code).

    Raises:
        InputError: the windows do not fit the size of the images.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int):
        super().__init__()
        channels, *sides = shape
        windows = LARGE if min(sides) >= 16 else SMALL
        if min(sides) < 8 or any((side - windows.margin) % windows.scale for side in sides):
            raise InputError(
                f"abs cannot model images of {sides[0]}x{sides[1]} pixels; "
                "want even sides from 8 to 14, or multiples of 4 from 16"
            )
        self.shape, self.classes = shape, classes
        down, across = ((side - windows.margin) // windows.scale for side in sides)
        self.encoder = nn.Sequential(_encoder(windows, channels, classes, sides))
        self.decoder = nn.Sequential(_decoder(windows, channels, classes, (down, across)))

    def forward(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return reconstructions from random latents, and means and log variances of the latents.

        Args:
            images: (n, classes, c, h, w), one image of each class in turn.
            generator: random numbers for the latents.

        Returns:
            reconstructions (n, classes, c, h, w); means and log variances (n, classes, LATENT).
        """
        n = len(images)
        encoded = self.encoder(images.flatten(1, 2)).view(n, self.classes, 2, LATENT)
        mean, log_variance = encoded.unbind(2)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return self.decode(mean + noise * (log_variance / 2).exp()), mean, log_variance

    def decode(self, latents: Tensor) -> Tensor:
        """Return images (n, classes, c, h, w) from latents (n, classes, LATENT)."""
        images = self.decoder(latents.flatten(1)[:, :, None, None])
        return images.view(len(latents), self.classes, *self.shape)


def _encoder(
    windows: Windows, channels: int, classes: int, sides: list[int]
) -> OrderedDict[str, nn.Module]:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (width, window, stride) in enumerate(windows.encoder, 1):
        layers[f"conv{number}"] = nn.Conv2d(
            classes * channels, classes * width, window, stride, groups=classes
        )
        layers[f"norm{number}"] = nn.BatchNorm2d(classes * width)
        layers[f"elu{number}"] = nn.ELU()
        channels, sides = width, [(side - window) // stride + 1 for side in sides]
    layers["latent"] = nn.Conv2d(
        classes * channels, classes * 2 * LATENT, (sides[0], sides[1]), groups=classes
    )
    return layers


def _decoder(
    windows: Windows, channels: int, classes: int, first: tuple[int, int]
) -> OrderedDict[str, nn.Module]:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width = LATENT
    for number, (following, window, stride) in enumerate(((32, first, 1), *windows.decoder), 1):
        layers[f"conv{number}"] = nn.ConvTranspose2d(
            classes * width, classes * (following or channels), window, stride, groups=classes
        )
        if following:
            layers[f"norm{number}"] = nn.BatchNorm2d(classes * following)
            layers[f"elu{number}"] = nn.ELU()
        width = following
    layers["sigmoid"] = nn.Sigmoid()
    return layers
