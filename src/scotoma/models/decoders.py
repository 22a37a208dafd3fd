"""The decoders of all classes as inference asks them: thousands of times, with weights that stay as they are."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.vae import ClassVAEs

CACHED = 64
"""Images of a class that a CPU decodes at once, so that their activations stay in its caches."""
BLOCKS = (4, 2, 1)
"""Sides of the blocks of pixels that the last layer makes, the first that divides the image's."""


class Layer(NamedTuple):
    """A transposed convolution with the normalisation after it folded in."""

    weight: Tensor
    bias: Tensor
    """(1, channels, 1, 1), added apart: on a CPU a transposed convolution with a bias takes up to four times as long"""
    stride: tuple[int, ...]


class Decoder:
    """The decoder of one class in evaluation.

    Tensors are kept with channels last, in which convolutions are fastest on a CPU. The first layer, from one pixel, is a matrix.
    The last makes whole blocks of pixels, as channels, by one convolution: a transposed one takes four times as long here.
    """

    def __init__(self, layers: list[Layer], shape: tuple[int, int, int]):
        first, *middle, final = layers
        self.shape, self.small = shape, first.weight.shape[1:]
        self.first = first._replace(weight=first.weight.flatten(1))
        self.middle = [layer._replace(weight=_last(layer.weight)) for layer in middle]
        self.final = final
        self.block = next(side for side in BLOCKS if not any(length % side for length in shape[1:]))
        self.blocks = _last(_blocks(final.weight, self.block))

    def decode(self, latents: Tensor) -> Tensor:
        """Images (n, c, h, w) from latents (n, LATENT); autograd sees every step."""
        made = F.elu(self._begin(latents).add_(self.first.bias), inplace=True)
        for layer in self.middle:
            made = F.elu(_forward(made, layer).add_(layer.bias), inplace=True)
        return self._end(made).add_(self.final.bias).sigmoid_()

    @torch.no_grad()
    def slope(self, images: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """|x - G(z)|^2, (n,), and its gradient by z, (n, LATENT), for images (n, c, h, w); by hand, in a fraction of autograd's
        time and memory."""
        made = F.elu(self._begin(latents).add_(self.first.bias), inplace=True)
        outputs = [made]
        for layer in self.middle:
            made = F.elu(_forward(made, layer).add_(layer.bias), inplace=True)
            outputs.append(made)
        made = self._end(made).add_(self.final.bias).sigmoid_()
        missed = made - images
        slope = missed.mul(2).mul_(made).mul_(1 - made)
        for layer, output in zip(
            (self.final, *reversed(self.middle)), reversed(outputs), strict=True
        ):
            slope = F.conv2d(_last(slope), layer.weight, stride=layer.stride)
            slope.mul_(output.clamp_(max=0).add_(1))  # the ELU's: 1 above 0, its output + 1 below
        return missed.flatten(1).square().sum(1), slope.flatten(1) @ self.first.weight.T

    def _begin(self, latents: Tensor) -> Tensor:
        return _last((latents @ self.first.weight).view(-1, *self.small))

    def _end(self, made: Tensor) -> Tensor:
        return F.pixel_shuffle(
            F.conv2d(made, self.blocks, stride=self.block, padding=self.final.weight.shape[-1] - 1),
            self.block,
        )


class Decoders:
    """The decoders of `ClassVAEs` in evaluation, their normalisation folded into their weights.

    One after the other, not as groups of one convolution: what a class makes of some images fits into a processor's caches, and
    classes may be asked for different images.
    """

    def __init__(self, vaes: ClassVAEs):
        self.shape, self.classes = vaes.shape, vaes.classes
        self.each = [Decoder(layers, vaes.shape) for layers in _folded(vaes)]

    def decode(self, latents: Tensor) -> Tensor:
        """Images (n, classes, c, h, w) from latents (n, classes, LATENT); autograd sees every step."""
        return torch.stack(
            [
                decoder.decode(part)
                for decoder, part in zip(self.each, latents.unbind(1), strict=True)
            ],
            1,
        )

    def slope(self, images: Tensor, latents: Tensor, counts: list[int]) -> tuple[Tensor, Tensor]:
        """|x - G(z)|^2, (m,), and its gradient by z, (m, LATENT), of m pairs of an image (m, c, h, w) and a latent (m, LATENT), of
        which the first counts[0] are of the first class, and so on."""
        together = CACHED if images.device.type == "cpu" else max(1, len(images))
        pairs = zip(self.each, images.split(counts), latents.split(counts), strict=True)
        made = [
            decoder.slope(*part)
            for decoder, of_class, z in pairs
            for part in zip(of_class.split(together), z.split(together), strict=True)
        ]
        missed, slope = zip(*made, strict=True)
        return torch.cat(missed), torch.cat(slope)


def _forward(made: Tensor, layer: Layer) -> Tensor:
    return F.conv_transpose2d(made, layer.weight, stride=layer.stride)


def _blocks(weight: Tensor, side: int) -> Tensor:
    """For a transposed convolution with stride 1 and weights (inputs, channels, k, k), the weights of a convolution that makes
    blocks of `side` x `side` pixels as channels, (channels * side * side, inputs, k + side - 1, k + side - 1)."""
    turned = weight.flip(2, 3).transpose(0, 1)
    places = [
        (left, side - 1 - left, top, side - 1 - top) for top in range(side) for left in range(side)
    ]
    return torch.stack([F.pad(turned, place) for place in places], 1).flatten(0, 1)


def _last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _folded(vaes: ClassVAEs) -> list[list[Layer]]:
    """The layers of each class."""
    layers: list[Layer] = []
    for layer in vaes.decoder:
        if isinstance(layer, nn.ConvTranspose2d):
            assert layer.bias is not None
            layers.append(
                Layer(layer.weight.detach(), layer.bias.detach().view(1, -1, 1, 1), layer.stride)
            )
        elif isinstance(layer, nn.BatchNorm2d):
            layers.append(_scaled(layers.pop(), layer, vaes.classes))
    apart = [
        zip(layer.weight.chunk(vaes.classes), layer.bias.chunk(vaes.classes, 1), strict=True)
        for layer in layers
    ]
    return [
        [
            Layer(weight, bias, layer.stride)
            for (weight, bias), layer in zip(of_class, layers, strict=True)
        ]
        for of_class in zip(*apart, strict=True)
    ]


def _scaled(layer: Layer, norm: nn.BatchNorm2d, classes: int) -> Layer:
    """The layer followed by a normalisation with the statistics of training."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    inputs = len(layer.weight) // classes
    weight = layer.weight * gain.view(classes, 1, -1).expand(-1, inputs, -1).reshape(
        len(layer.weight), -1, 1, 1
    )
    bias = (layer.bias - norm.running_mean.view(1, -1, 1, 1)) * gain.view(
        1, -1, 1, 1
    ) + norm.bias.detach().view(1, -1, 1, 1)
    return Layer(weight, bias, layer.stride)
