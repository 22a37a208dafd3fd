"""Activations replaced or preceded by others that are flat in places."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.defences.base import ACTIVATIONS, Fitted, replace_layers, train
from scotoma.utils.errors import InputError


class Winners(nn.Module):
    """Keeps the largest `ratio` of an image's values in a layer, and sets the others to 0."""

    def __init__(self, ratio: float):
        super().__init__()
        self.ratio = ratio

    def forward(self, features: Tensor) -> Tensor:
        flat = features.flatten(1)
        count = max(1, int(self.ratio * flat.shape[1]))
        least = flat.topk(count, dim=1, sorted=False).values.amin(1, keepdim=True)
        return (flat * (flat >= least).to(flat.dtype)).view_as(features)


class KWinners(Fitted):
    """Replaces activation functions by k-winners-take-all, and trains the network with them.

    Source: Xiao, Zhong and Zheng 2020, "Enhancing adversarial defense by k-winners-take-all".
    Broken by: Tramer, Carlini, Brendel and Madry 2020, "On adaptive attacks to adversarial example
    defenses" (gradients from differences, averaged over a region).

    >>> import torch
    >>> Winners(0.5)(torch.tensor([[3.0, -1.0, 2.0, -5.0]])).tolist()
    [[3.0, -0.0, 2.0, -0.0]]
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> KWinners(network)(torch.rand(5, 1, 2, 2)).shape
    torch.Size([5, 2])
    """

    def __init__(self, network: nn.Module, ratio: float = 0.1, steps: int = 100):
        super().__init__(network)
        self.steps = steps
        replace_layers(network, ACTIVATIONS, lambda _: Winners(ratio), "activation layer")

    def fit(self, images: Tensor, labels: Tensor) -> None:
        """Train the network with its new activations by cross-entropy."""
        train(self.network, images, labels, F.cross_entropy, steps=self.steps, rate=5e-4)


BATCH = 250


class Sparsifier(nn.Module):
    """Sets values nearer to the mean of their channel than `alpha` deviations to this mean."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, alpha: float):
        super().__init__()
        self.alpha = alpha
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("deviation", torch.empty(0))

    def forward(self, features: Tensor) -> Tensor:
        if not len(self.mean):
            return features
        shape = (1, -1) + (1,) * (features.ndim - 2)
        mean, deviation = self.mean.view(shape), self.deviation.view(shape)
        near = (features - mean).abs() <= self.alpha * deviation
        return torch.where(near, mean, features)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for name in ("mean", "deviation"):  # the file decides how many channels there are
            if prefix + name in state_dict:
                setattr(self, name, state_dict[prefix + name].clone())
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class MeanSparse(Fitted):
    """Replaces features near the mean of their channel by the mean, before every activation.

    Means and deviations are those of the undefended network on the training images.

    Source: Amini, Teymoorianfard, Ma and Houmansadr 2024, "MeanSparse: post-training robustness
    enhancement through mean-centered feature sparsification".
    Broken by: we know of no paper. Features inside the dead zone have no gradient, as in the
    defences that Athalye, Carlini and Wagner 2018 break with BPDA.

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    >>> layer, images = MeanSparse(network, alpha=100), torch.rand(50, 1, 2, 2)
    >>> layer.calibrate(images)
    >>> torch.equal(layer(images[:1]), layer(images[1:2]))  # all features are at their means
    True
    """

    def __init__(self, network: nn.Module, alpha: float = 0.25):
        super().__init__(network)
        replace_layers(
            network,
            ACTIVATIONS,
            lambda layer: nn.Sequential(Sparsifier(alpha), layer),
            "activation layer",
        )

    def fit(self, images: Tensor, labels: Tensor) -> None:
        """Measure means and deviations."""
        self.calibrate(images)

    def calibrate(self, images: Tensor) -> None:
        """Measure means and deviations of every channel on images (n, c, h, w)."""
        layers = [part for part in self.modules() if isinstance(part, Sparsifier)]
        for layer in layers:
            layer.mean = layer.deviation = torch.empty(0)
        sums: dict[nn.Module, Tensor] = {}

        def add(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].double().flatten(2) if inputs[0].ndim > 2 else inputs[0].double()
            values = values.transpose(0, 1).flatten(1)
            count = torch.full_like(values[:, 0], values.shape[1])
            new = torch.stack([count, values.sum(1), values.square().sum(1)])
            if layer in sums and sums[layer].shape != new.shape:
                raise InputError("one activation layer serves features of different widths")
            sums[layer] = sums[layer] + new if layer in sums else new

        handles = [layer.register_forward_pre_hook(add) for layer in layers]
        try:
            with torch.no_grad():
                for part in images.split(BATCH):
                    self.network(part)
        finally:
            for handle in handles:
                handle.remove()
        for layer in layers:
            if layer in sums:
                count, total, squares = sums[layer]
                mean = total / count
                layer.mean = mean.float()
                layer.deviation = (squares / count - mean**2).clamp_min(0).sqrt().float()
