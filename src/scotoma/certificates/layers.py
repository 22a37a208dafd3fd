"""A feed-forward ReLU network as convolutions with ReLUs between them, for the dual bound."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.layers import is_plain, parts
from scotoma.models.resnet import Standardise
from scotoma.utils.errors import InputError

Pair = tuple[int, int]


@dataclass(frozen=True)
class Convolution:
    """An affine layer; a dense layer is a convolution whose window is the whole map.

    `weight` is (outputs, inputs, height, width) and maps `before` (height, width) to `after`.
    """

    weight: Tensor
    bias: Tensor | None
    before: Pair
    after: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)

    def __call__(self, maps: Tensor) -> Tensor:
        return F.conv2d(maps, self.weight, self.bias, self.stride, self.padding)

    def linear(self, maps: Tensor) -> Tensor:
        """Return the result without the bias."""
        return F.conv2d(maps, self.weight, None, self.stride, self.padding)

    def spread(self, radius: Tensor) -> Tensor:
        """Return the radius of the image of a box of that radius."""
        return F.conv2d(radius, self.weight.abs(), None, self.stride, self.padding)


@dataclass(frozen=True)
class Network:
    """Layers with ReLUs between them, after modules `entry` that scale each pixel."""

    entry: tuple[nn.Module, ...]
    layers: tuple[Convolution, ...]

    def box(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return centre and radius of the first layer's input for pixels in [low, high], (n, c, h,
        w)."""
        for scale in self.entry:
            ends = scale(low), scale(high)
            low, high = ends[0].minimum(ends[1]), ends[0].maximum(ends[1])
        return (low + high) / 2, (high - low) / 2


def read_network(model: nn.Module, shape: tuple[int, int, int]) -> Network:
    """Return the layers of `model`, which share its weights, for images of `shape`.

    Raises:
        InputError: the model is not a sequence of convolutions, dense layers and ReLUs.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> len(read_network(model, (1, 2, 2)).layers)
    2
    """
    entry: list[nn.Module] = []
    layers: list[Convolution] = []
    rectified = flat = False
    for module in parts(model):
        if not is_plain(module):
            raise _unknown(f"a layer {type(module).__name__} with code or a hook of its own")
        match module:
            case nn.Flatten(start_dim=1, end_dim=-1):
                flat = True
            case nn.Identity() | nn.Dropout():
                pass
            case Standardise() if not layers:
                entry.append(module)
            case nn.ReLU() if layers:
                rectified = True
            case nn.Conv2d() | nn.Linear():
                if layers and not rectified:
                    raise _unknown("two layers without a ReLU between them")
                rectified = False
                convert = _dense if isinstance(module, nn.Linear) else _convolution
                layers.append(convert(module, shape, flat))  # type: ignore[arg-type]
                shape = (len(layers[-1].weight), *layers[-1].after)
            case _:
                raise _unknown(f"a layer {type(module).__name__}")
    if not layers or rectified or layers[-1].after != (1, 1):
        raise _unknown("no dense layer at its end")
    return Network(tuple(entry), tuple(layers))


def _dense(module: nn.Linear, shape: tuple[int, int, int], flat: bool) -> Convolution:
    if not flat or module.in_features != prod(shape):
        raise _unknown("a dense layer that is not given the flattened maps")
    return Convolution(module.weight.view(-1, *shape), module.bias, shape[1:], (1, 1))


def _convolution(module: nn.Conv2d, shape: tuple[int, int, int], flat: bool) -> Convolution:
    plain = module.padding_mode == "zeros" and module.dilation == (1, 1) and module.groups == 1
    if flat or not plain or isinstance(module.padding, str):
        raise _unknown(f"the layer {module}")
    stride: Pair = module.stride  # type: ignore[assignment]
    padding: Pair = module.padding  # type: ignore[assignment]
    height, width = (
        (shape[1 + dim] + 2 * padding[dim] - module.kernel_size[dim]) // stride[dim] + 1
        for dim in range(2)
    )
    return Convolution(module.weight, module.bias, shape[1:], (height, width), stride, padding)


def _unknown(obstacle: str) -> InputError:
    return InputError(
        f"no bound for this model, which has {obstacle}: the bound knows nn.Sequential of plain "
        "convolutions and dense layers with ReLUs between them"
    )
