"""The dual bound of Wong and Kolter (2018) for a ReLU network and an L-inf ball.

Over the ball a ReLU with input bounds l < 0 < u lies in the strip d z + [0, -d l], d = u / (u - l),
whose edges the paper's dual solution picks for either sign (Theorem 1). With the middle and
half-width of the strip in place of the edges, the paper's J is centre minus radius. The centre is a
forward pass. The radius is the L1 norm of all that varies, pixels and strips, seen through the
linearised layers; walking down a layer is the paper's multiplication with the transposed weights.
The ball is cut to [0, 1] at each pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from scotoma.certificates.layers import Convolution, Network, Pair
from scotoma.threat import TOLERANCE

BLOCK = 2**20
"""Approximate number of coefficients in memory during a walk."""

GUARD = 1e-4
"""Share of its terms by which a float32 bound must exceed zero; rounding is about 1e-6 of them."""

FEW = 4
"""Channels up to which a product and a fold are faster on a CPU than a transposed convolution."""


@dataclass(frozen=True)
class Strip:
    """Range of a ReLU's output over the ball, slope * z + error * [0, 2]; both (n, c, h, w)."""

    slope: Tensor
    error: Tensor

    @classmethod
    def between(cls, low: Tensor, high: Tensor) -> Strip:
        """Return the strip for inputs between `low` and `high`."""
        unstable = (low < 0) & (high > 0)
        slope = torch.where(
            unstable, high / torch.where(unstable, high - low, 1), (low >= 0).to(low)
        )
        return cls(slope, torch.where(unstable, -low * slope / 2, 0))


@dataclass(frozen=True)
class View:
    """Dependence of units on a layer below them, in one window for each unit.

    `rows` is (n, height, width, units, c, kh, kw): images, positions, units at a position,
    coefficients of the window; images and positions are 1 if all are alike. The window of position
    (i, j) of `positions` starts at (i, j) * stride - padding.
    """

    rows: Tensor
    positions: Pair
    stride: Pair
    padding: Pair

    @classmethod
    def of(cls, layer: Convolution, units: slice = slice(None)) -> View:
        """Return the dependence of some output channels of a layer on its input."""
        return cls(layer.weight[None, None, None, units], layer.after, layer.stride, layer.padding)

    def through(self, layer: Convolution) -> View:
        """Return the dependence on the input of `layer` from that on its output."""
        (height, width), lead = self.rows.shape[5:], self.rows.shape[:4]
        if height * width == 1:
            rows = self.rows.flatten(4) @ layer.weight.flatten(1)
            rows = rows.unflatten(-1, layer.weight.shape[1:])
        elif layer.weight.shape[1] <= FEW:
            taps = layer.weight.flatten(1).T @ self.rows.flatten(5).flatten(0, 3)
            kernel, stride = layer.weight.shape[2:], layer.stride
            size = (height - 1) * stride[0] + kernel[0], (width - 1) * stride[1] + kernel[1]
            folded = F.fold(taps, size, kernel, stride=stride)  # type: ignore[arg-type]
            rows = folded.unflatten(0, lead)
        else:
            maps = self.rows.flatten(0, 3).contiguous(memory_format=torch.channels_last)
            rows = F.conv_transpose2d(maps, layer.weight, stride=layer.stride).unflatten(0, lead)
        if self.positions == (1, 1):  # a single window need not stick out
            (height, width), (down, right) = layer.before, layer.padding
            inside = rows[..., down : down + height, right : right + width]
            return View(inside, (1, 1), (1, 1), (0, 0))
        (a, b), (down, right) = layer.stride, layer.padding
        stride = self.stride[0] * a, self.stride[1] * b
        padding = self.padding[0] * a + down, self.padding[1] * b + right
        return View(rows, self.positions, stride, padding)

    def past(self, slope: Tensor) -> View:
        """Return the dependence on the input of ReLUs with these slopes."""
        return replace(self, rows=self.rows * self._windows(slope)[:, :, :, None])

    def size(self, radius: Tensor) -> Tensor:
        """Return the sum of |coefficient| * radius over each window, (n, units, height, width)."""
        radii = self._windows(radius).flatten(3)
        rows = self.rows.abs().flatten(4)
        if rows.shape[:3] == (1, 1, 1):
            return (radii @ rows[0, 0, 0].T).permute(0, 3, 1, 2)
        return (rows @ radii[..., None]).squeeze(-1).permute(0, 3, 1, 2)

    def _windows(self, maps: Tensor) -> Tensor:
        """(n, height, width, c, kh, kw)"""
        (height, width), (down, right) = self.rows.shape[5:], self.padding
        padded = F.pad(maps, [right, right, down, down])
        windows = padded.unfold(2, height, self.stride[0]).unfold(3, width, self.stride[1])
        return windows[:, :, : self.positions[0], : self.positions[1]].permute(0, 2, 3, 1, 4, 5)


def radius(
    view: View, layers: Sequence[Convolution], strips: Sequence[Strip], pixels: Tensor
) -> Tensor:
    """Return how far units vary from their centre, (n, units, height, width).

    Args:
        view: dependence of the units on the output of the last of `strips`, or else on the pixels.
        layers, strips: those below, from the first; equally many.
        pixels: radius of the pixels, (n, c, h, w).
    """
    total: Tensor | float = 0.0
    for layer, strip in zip(reversed(layers), reversed(strips), strict=True):
        total = total + view.size(strip.error)
        view = view.past(strip.slope).through(layer)
    return total + view.size(pixels)


def exact_radius(layers: Sequence[Convolution], strips: Sequence[Strip], pixels: Tensor) -> Tensor:
    """Return the `radius` of the last layer's units, by blocks of channels to bound memory."""
    *below, layer = layers
    channels = max(1, BLOCK // (len(pixels) * _coefficients(layer, below)))
    slices = [slice(start, start + channels) for start in range(0, len(layer.weight), channels)]
    return torch.cat([radius(View.of(layer, units), below, strips, pixels) for units in slices], 1)


def _coefficients(layer: Convolution, below: Sequence[Convolution]) -> int:
    """Return the most coefficients an image that a walk down from one channel of `layer` needs."""
    height, width = layer.weight.shape[2:]
    most = prod(layer.weight.shape[1:])
    for lower in reversed(below):
        height = (height - 1) * lower.stride[0] + lower.weight.shape[2]
        width = (width - 1) * lower.stride[1] + lower.weight.shape[3]
        most = max(most, lower.weight.shape[1] * height * width)
    return most * prod(layer.after)


def sketch(projections: int, maps: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return `projections` Cauchy projections of the radii, one draw for all images, (k, n, c, h,
    w)."""
    numbers = maps.new_empty((projections, 1, *maps.shape[1:]))
    return numbers.cauchy_(generator=generator) * maps


def lift(layer: Convolution, sums: Tensor) -> Tensor:
    """Return the sums (k, n, c, h, w) after a layer."""
    maps = sums.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return layer.linear(maps).unflatten(0, sums.shape[:2])


def bound(
    network: Network,
    images: Tensor,
    labels: Tensor,
    eps: float,
    projections: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Return centre and radius, (n, classes) each, of the label's logit minus every logit.

    They hold over the ball of `eps` cut to [0, 1]. Centre minus radius is the lower bound J of Wong
    and Kolter (2018, Theorem 1); both are 0 in the label's own column.

    Args:
        network: the result of `read_network`.
        images: (n, c, h, w) in [0, 1].
        labels: int64 (n,).
        eps: L-inf radius.
        projections: number of Cauchy random projections that estimate the radii of hidden layers
            (Wong et al. 2018, section 3.2), which bounds nothing but trains well; None computes
            exact radii.
        generator: random numbers of the projections.

    >>> from scotoma.certificates.layers import read_network
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2, bias=False))
    >>> _ = model[1].weight.data.copy_(torch.eye(2))
    >>> image, label = torch.tensor([[[[0.8, 0.2]]]]), torch.tensor([0])
    >>> bound(read_network(model, (1, 1, 2)), image, label, eps=0.1)
    (tensor([[0.0000, 0.6000]]...), tensor([[0.0000, 0.2000]]...))
    """
    centre, pixels = network.box((images - eps).clamp_min(0), (images + eps).clamp_max(1))
    *hidden, last = network.layers
    strips: list[Strip] = []
    sums = torch.empty(0)
    for depth, layer in enumerate(hidden):
        centre = layer(centre)
        if depth == 0:
            radii = layer.spread(pixels)
            if projections:
                sums = lift(layer, sketch(projections, pixels, generator))
        elif projections:  # the last strips' part is exact: a pass with absolute weights
            older = lift(layer, sums * strips[-1].slope)
            radii = older.abs().median(0).values + layer.spread(strips[-1].error)
            if depth < len(hidden) - 1:
                sums = older + lift(layer, sketch(projections, strips[-1].error, generator))
        else:
            radii = exact_radius(network.layers[: depth + 1], strips, pixels)
        strips.append(Strip.between(centre - radii, centre + radii))
        centre = centre * strips[-1].slope + strips[-1].error
    classes = torch.eye(len(last.weight), dtype=images.dtype, device=images.device)
    differences = (classes[labels][:, None] - classes)[:, None, None, :, :, None, None]
    radii = radius(
        View(differences, (1, 1), (1, 1), (0, 0)).through(last), hidden, strips, pixels
    ).flatten(1)
    logits = last(centre).flatten(1)
    return logits.gather(1, labels[:, None]) - logits, radii


@torch.no_grad()
def certified(network: Network, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """Return which images keep their label over the ball of `eps` cut to [0, 1], bool (n,).

    True is a proof: the ball is enlarged by the tolerance of measured distances, and the bound must
    exceed a share `GUARD` of its terms. False means nothing.

    >>> from scotoma.certificates.layers import read_network
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2, bias=False))
    >>> _ = model[1].weight.data.copy_(torch.eye(2))
    >>> network, image = read_network(model, (1, 1, 2)), torch.tensor([[[[0.8, 0.2]]]])
    >>> [certified(network, image, torch.tensor([0]), eps).item() for eps in (0.2, 0.4)]
    [True, False]
    """
    # an accelerator would round products to 10 bits
    with (
        torch.autocast(images.device.type, enabled=False),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
    ):
        centre, radii = bound(network, images, labels, eps + TOLERANCE)
    holds = centre - radii > GUARD * (centre.abs() + radii)
    return holds.scatter(1, labels[:, None], True).all(1)
