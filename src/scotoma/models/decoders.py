"""The decoders of all classes with fixed weights, for thousands of passes in inference."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.vae import ClassVAEs

CACHED = 64
"""Images of a class that a CPU decodes at once, so that activations stay in its caches."""
BLOCKS = (4, 2, 1)
"""Sides of the blocks of pixels that the last layer makes: the first that divides the sides of the
image."""


class Layer(NamedTuple):
    """A transposed convolution with the normalisation after it folded in."""

    weight: Tensor
    bias: Tensor
    """(1, channels, 1, 1), added separately: a transposed convolution with bias takes up to four
    times as long on a CPU."""
    stride: tuple[int, ...]


class Decoder:
    """The decoder of one class in evaluation.

    Tensors have channels last, with which convolutions are fastest on a CPU. The first layer, from
    one pixel, is a matrix. The last makes whole blocks of pixels, as channels, by one convolution,
    since a transposed one takes four times as long.
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
        """Return images (n, c, h, w) from latents (n, LATENT), with gradients."""
        maps = self._begin(latents)
        for layer in self.middle:
            maps = _forward(maps, layer)
        return self._end(maps)

    @torch.no_grad()
    def slope(self, images: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return |x - G(z)|^2, (n,), and its gradient by z, (n, LATENT), for images (n, c, h, w).

        This takes a fraction of autograd's time and memory.
        """
        outputs = [self._begin(latents)]
        for layer in self.middle:
            outputs.append(_forward(outputs[-1], layer))
        decoded = self._end(outputs[-1])
        error = decoded - images
        slope = error.mul(2).mul_(decoded).mul_(1 - decoded)
        for layer, output in zip(
            (self.final, *reversed(self.middle)), reversed(outputs), strict=True
        ):
            slope = F.conv2d(_last(slope), layer.weight, stride=layer.stride)
            # The slope of the ELU is 1 above 0, and its output + 1 below.
            slope.mul_(output.clamp_(max=0).add_(1))
        return error.flatten(1).square().sum(1), slope.flatten(1) @ self.first.weight.T

    def _begin(self, latents: Tensor) -> Tensor:
        maps = _last((latents @ self.first.weight).view(-1, *self.small))
        return F.elu(maps.add_(self.first.bias), inplace=True)

    def _end(self, maps: Tensor) -> Tensor:
        padding = self.final.weight.shape[-1] - 1
        blocks = F.conv2d(maps, self.blocks, stride=self.block, padding=padding)
        return F.pixel_shuffle(blocks, self.block).add_(self.final.bias).sigmoid_()


class Decoders:
    """The decoders of `ClassVAEs` in evaluation, with normalisation folded into their weights.

    They run one after the other, not as groups of one convolution: the activations of one class fit
    into a processor's caches, and classes may get different images.
    """

    def __init__(self, vaes: ClassVAEs):
        self.shape, self.classes = vaes.shape, vaes.classes
        self.each = [Decoder(layers, vaes.shape) for layers in _folded(vaes)]

    def decode(self, latents: Tensor) -> Tensor:
        """Return images (n, classes, c, h, w) from latents (n, classes, LATENT), with gradients."""
        pairs = zip(self.each, latents.unbind(1), strict=True)
        return torch.stack([decoder.decode(z) for decoder, z in pairs], 1)

    def slope(self, images: Tensor, latents: Tensor, counts: list[int]) -> tuple[Tensor, Tensor]:
        """Return |x - G(z)|^2, (m,), and its gradient by z, (m, LATENT).

        Args:
            images: (m, c, h, w).
            latents: (m, LATENT), one for each image.
            counts: how many of the pairs belong to the first class, the second, and so on.
        """
        together = CACHED if images.device.type == "cpu" else max(1, len(images))
        pairs = zip(self.each, images.split(counts), latents.split(counts), strict=True)
        results = [
            decoder.slope(*part)
            for decoder, of_class, z in pairs
            for part in zip(of_class.split(together), z.split(together), strict=True)
        ]
        errors, slope = zip(*results, strict=True)
        return torch.cat(errors), torch.cat(slope)


def _forward(maps: Tensor, layer: Layer) -> Tensor:
    maps = F.conv_transpose2d(maps, layer.weight, stride=layer.stride)
    return F.elu(maps.add_(layer.bias), inplace=True)


def _blocks(weight: Tensor, side: int) -> Tensor:
    """Return the weights of a convolution that makes blocks of `side` x `side` pixels as channels.

    Args:
        weight: weights of a transposed convolution of stride 1, (inputs, channels, k, k).
        side: s.

    Returns:
        (channels * s * s, inputs, k + s - 1, k + s - 1).
    """
    turned, shifts = weight.flip(2, 3).transpose(0, 1), range(side)
    paddings = [(left, side - 1 - left, top, side - 1 - top) for top in shifts for left in shifts]
    return torch.stack([F.pad(turned, padding) for padding in paddings], 1).flatten(0, 1)


def _last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _folded(vaes: ClassVAEs) -> list[list[Layer]]:
    """Return the layers of each class."""
    layers: list[Layer] = []
    for layer in vaes.decoder:
        if isinstance(layer, nn.ConvTranspose2d):
            assert layer.bias is not None
            bias = layer.bias.detach().view(1, -1, 1, 1)
            layers.append(Layer(layer.weight.detach(), bias, layer.stride))
        elif isinstance(layer, nn.BatchNorm2d):
            layers.append(_scaled(layers.pop(), layer, vaes.classes))
    classes: list[list[Layer]] = [[] for _ in range(vaes.classes)]
    for layer in layers:
        parts = zip(
            layer.weight.chunk(vaes.classes), layer.bias.chunk(vaes.classes, 1), strict=True
        )
        for of_class, (weight, bias) in zip(classes, parts, strict=True):
            of_class.append(Layer(weight, bias, layer.stride))
    return classes


def _scaled(layer: Layer, norm: nn.BatchNorm2d, classes: int) -> Layer:
    """Return the layer with the normalisation after it, by the statistics of training."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    rows, shape = len(layer.weight), (1, -1, 1, 1)
    gains = gain.view(classes, 1, -1).expand(-1, rows // classes, -1).reshape(rows, -1, 1, 1)
    bias = (layer.bias - norm.running_mean.view(shape)) * gain.view(shape)
    return Layer(layer.weight * gains, bias + norm.bias.detach().view(shape), layer.stride)
