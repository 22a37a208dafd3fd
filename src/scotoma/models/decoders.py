"""The decoders of all classes as inference asks them: thousands of times, with weights that stay as they are."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.vae import ClassVAEs


class Layer(NamedTuple):
    """A transposed convolution with the normalisation after it folded in."""

    weight: Tensor
    bias: Tensor
    """(1, channels, 1, 1), added apart: on a CPU a transposed convolution with a bias takes up to four times as long"""
    stride: tuple[int, ...]


class Decoders:
    """The decoders of `ClassVAEs` in evaluation, their normalisation folded into their weights.

    Tensors are kept with channels last, in which grouped convolutions are fastest on a CPU, save for the last layer, whose one
    channel a class is faster made channel by channel.
    """

    def __init__(self, vaes: ClassVAEs):
        self.shape, self.classes = vaes.shape, vaes.classes
        self.layers = [layer._replace(weight=_last(layer.weight)) for layer in _folded(vaes)]
        final = self.layers[-1]
        self.final = final._replace(weight=final.weight.clone(memory_format=torch.contiguous_format))

    def decode(self, latents: Tensor) -> Tensor:
        """Images (n, classes, c, h, w) from latents (n, classes, LATENT); autograd sees every step."""
        made = _spread(latents)
        for layer in self.layers[:-1]:
            made = F.elu(self._forward(made, layer) + layer.bias)
        made = self._forward(made.contiguous(), self.final) + self.final.bias
        return made.sigmoid().view(len(latents), self.classes, *self.shape)

    @torch.no_grad()
    def slope(self, images: Tensor, latents: Tensor) -> Tensor:
        """The gradient of |x - G(z)|^2 by z, (n, classes, LATENT), for images (n, c, h, w); by hand, in a fraction of autograd's
        time and memory."""
        made, outputs = _spread(latents), []
        for layer in self.layers[:-1]:
            made = self._forward(made, layer).add_(layer.bias)
            below = made.clamp(max=0).exp_().sub_(1)
            outputs.append(made.clamp_(min=0).add_(below))
        made = self._forward(made.contiguous(), self.final).add_(self.final.bias).sigmoid_()
        turned = made.view(len(images), self.classes, *self.shape)
        slope = (turned - images[:, None]).mul_(2).view_as(made).mul_(made).mul_(1 - made)
        for layer, output in zip(reversed(self.layers), [*reversed(outputs), None], strict=True):
            slope = F.conv2d(_last(slope), layer.weight, stride=layer.stride, groups=self.classes)
            if output is not None:
                slope.mul_(output.clamp_(max=0).add_(1))  # the ELU's: 1 above 0, its output + 1 below
        return slope.reshape(latents.shape)

    def _forward(self, made: Tensor, layer: Layer) -> Tensor:
        return F.conv_transpose2d(made, layer.weight, stride=layer.stride, groups=self.classes)


def _spread(latents: Tensor) -> Tensor:
    return _last(latents.flatten(1)[:, :, None, None])


def _last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _folded(vaes: ClassVAEs) -> list[Layer]:
    layers: list[Layer] = []
    for layer in vaes.decoder:
        if isinstance(layer, nn.ConvTranspose2d):
            assert layer.bias is not None
            layers.append(Layer(layer.weight.detach(), layer.bias.detach().view(1, -1, 1, 1), layer.stride))
        elif isinstance(layer, nn.BatchNorm2d):
            layers.append(_scaled(layers.pop(), layer, vaes.classes))
    return layers


def _scaled(layer: Layer, norm: nn.BatchNorm2d, classes: int) -> Layer:
    """The layer followed by a normalisation with the statistics of training."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    inputs = len(layer.weight) // classes
    weight = layer.weight * gain.view(classes, 1, -1).expand(-1, inputs, -1).reshape(len(layer.weight), -1, 1, 1)
    bias = (layer.bias - norm.running_mean.view(1, -1, 1, 1)) * gain.view(1, -1, 1, 1) + norm.bias.detach().view(1, -1, 1, 1)
    return Layer(weight, bias, layer.stride)
