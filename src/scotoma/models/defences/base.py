"""What the defences share: the wrapper, its fitting, and the replacement of layers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.models.classifier import freeze
from scotoma.utils.errors import InputError

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh)


class Defence(nn.Module):
    """A network behind a defence, or changed by it.

    Args:
        network: from images (n, c, h, w) in [0, 1] to logits (n, classes).
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


class Fitted(Defence):
    """A defence with parameters or statistics from training images."""

    works_unfitted: ClassVar[bool] = False
    """Whether it has a form that needs no training images."""

    @abstractmethod
    def fit(self, images: Tensor, labels: Tensor) -> None:
        """Fit it to training images (n, c, h, w) and labels (n,), with the global random state."""


def replace_layers(
    network: nn.Module,
    kinds: tuple[type[nn.Module], ...],
    replacement: Callable[[nn.Module], nn.Module],
    what: str,
) -> None:
    """Replace every layer of some kinds inside a network, in place.

    Args:
        network: the network; it may not itself be such a layer.
        kinds: classes of the layers.
        replacement: from a layer to the module in its place; a layer that is used in several places
            is replaced by one module.
        what: what is replaced, for the error.

    Raises:
        InputError: the network has no such layer as a module.
    """
    replaced: dict[nn.Module, nn.Module] = {}
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):
            if isinstance(child, kinds):
                if child not in replaced:
                    replaced[child] = replacement(child)
                setattr(parent, name, replaced[child])
    if not replaced:
        raise InputError(
            f"the network has no {what} as a module, and {what}s called as functions cannot be "
            "replaced"
        )


def train(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    steps: int,
    rate: float = 1e-3,
    batch: int = 128,
) -> None:
    """Train a model with Adam, at a rate that decreases linearly to 0, and freeze it.

    Args:
        model: the model, in place.
        images: inputs (n, ...).
        targets: what the loss compares the outputs with (n, ...).
        loss: from outputs and targets of a batch to a number.
        steps: steps, each on images drawn with replacement.
        rate: learning rate of the first step.
        batch: images in a step.
    """
    where = next(model.parameters()).device
    model.train()
    model.requires_grad_(True)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    with torch.enable_grad():
        for step in range(steps):
            rows = torch.randint(len(images), (batch,))
            optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
            optimizer.zero_grad()
            loss(model(images[rows].to(where)), targets[rows].to(where)).backward()
            optimizer.step()
    freeze(model)
