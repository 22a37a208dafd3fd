"""One variational autoencoder a class, all of them in one grouped network (Schott et al. 2019, section 3)."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn

from scotoma.utils.errors import InputError

LATENT = 8
"""Dimensions of the latent space of each class."""


class Windows(NamedTuple):
    """(channels, window, stride) of the convolutions of an encoder and of a decoder, the last of which makes the image."""

    encoder: tuple[tuple[int, int, int], ...]
    decoder: tuple[tuple[int, int, int], ...]
    margin: int
    """what the decoder adds to four times (`small`: two times) the side of its first window"""
    scale: int


LARGE = Windows(
    ((32, 5, 1), (32, 4, 2), (64, 3, 2)), ((16, 5, 2), (16, 5, 2), (0, 4, 1)), margin=12, scale=4
)
"""The authors' own, made for 28x28 pixels; for sides that are a multiple of 4."""
SMALL = Windows(((32, 3, 1), (64, 4, 2)), ((16, 4, 2), (0, 3, 1)), margin=4, scale=2)
"""For images of 8 to 14 pixels a side, an even number."""


class ClassVAEs(nn.Module):
    """Encoders to means and log variances of `LATENT` dimensions and decoders back, one of each a class.

    They run side by side as the groups of grouped convolutions: a batch (n, classes * c, h, w) holds n images of every class, and
    what one class sees, batch statistics too, no other does. 28x28 pixels are encoded by convolutions 32@5x5, 32@4x4/2, 64@3x3/2
    and one over what is left, and decoded by transposed ones 32@4x4, 16@5x5/2, 16@5x5/2 and 1@4x4, with batch normalisation and
    ELUs between and a sigmoid in the end (the authors' code).

    Raises:
        InputError: images of a size that these windows cannot make.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int):
        super().__init__()
        channels, *sides = shape
        windows = LARGE if min(sides) >= 16 else SMALL
        if min(sides) < 8 or any((side - windows.margin) % windows.scale for side in sides):
            raise InputError(
                f"--arch abs: images are {sides[0]}x{sides[1]}; its decoder makes sides that are a multiple of 4 from 16 pixels "
                "on, and even ones from 8 to 14"
            )
        self.shape, self.classes = shape, classes
        first = (
            (sides[0] - windows.margin) // windows.scale,
            (sides[1] - windows.margin) // windows.scale,
        )
        self.encoder = nn.Sequential(_encoder(windows, channels, classes, sides))
        self.decoder = nn.Sequential(_decoder(windows, channels, classes, first))

    def forward(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstructions of images, one of each class in turn, from latents drawn around their means.

        Args:
            images: (n, classes, c, h, w).
            generator: for the draws.

        Returns:
            reconstructions like the images; means and log variances (n, classes, LATENT).
        """
        n = len(images)
        encoded = self.encoder(images.flatten(1, 2)).view(n, self.classes, 2, LATENT)
        mean, log_variance = encoded.unbind(2)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return self.decode(mean + noise * (log_variance / 2).exp()), mean, log_variance

    def decode(self, latents: Tensor) -> Tensor:
        """Images (n, classes, c, h, w) from latents (n, classes, LATENT), each class by its own decoder."""
        return self.decoder(latents.flatten(1)[:, :, None, None]).view(
            len(latents), self.classes, *self.shape
        )


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
