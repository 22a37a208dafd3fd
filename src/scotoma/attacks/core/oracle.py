"""The model as an attack sees it: logits and input gradients of the open images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from scotoma.attacks.core.losses import fooled, margin
from scotoma.utils.device import autocast
from scotoma.utils.logits import magnitude

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits (n, classes) and labels (n,) to a loss (n,), or k losses (n, k) for `Oracle.jacobian`."""

DOUBT = 2**-7
"""Share of the largest logit (rounding of bf16) below which a margin is confirmed in float32."""


class ValueAndGrad(NamedTuple):
    """Result of a forward pass and one or k backward passes."""

    gradient: Tensor
    """(n, c, h, w) or (n, k, c, h, w), owned by the attack; 0 where it is not finite"""
    loss: Tensor
    """(n,) or (n, k)"""
    fooled: Tensor
    """bool (n,)"""


class Oracle:
    """A model and the labels of the images under attack; `select` keeps those that are still open.

    A `Counted` model counts every pass. Where the model allows reduced precision, gradients use it,
    but whether an image is fooled is always decided in float32.
    """

    def __init__(self, model: nn.Module, labels: Tensor, rows: Tensor | None = None):
        self.model = model
        self.labels = labels
        self.rows = torch.arange(len(labels), device=labels.device) if rows is None else rows

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, keep: Tensor) -> Oracle:
        """Return the oracle of the images in `keep` (a mask or indices)."""
        return Oracle(self.model, self.labels[keep], self.rows[keep])

    def logits(self, images: Tensor) -> Tensor:
        """Return logits without a gradient: one forward pass."""
        with torch.no_grad():
            return answer(self.model, images, self.rows).float()

    def fooled(self, images: Tensor) -> Tensor:
        """Return which images are misclassified (`losses.fooled`)."""
        return fooled(self.logits(images), self.labels)

    def value_and_grad(self, images: Tensor, loss: Loss) -> ValueAndGrad:
        """Return loss and gradient: one forward and one backward pass, through the inputs alone."""
        gradients, *rest = self._gradients(images, loss)
        return ValueAndGrad(gradients[0], *rest)

    def jacobian(self, images: Tensor, losses: Loss) -> ValueAndGrad:
        """Return an image's k losses and their gradients: one forward and k backward passes."""
        gradients, *rest = self._gradients(images, losses)
        return ValueAndGrad(torch.stack(gradients, 1), *rest)

    def _gradients(self, images: Tensor, loss: Loss) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return the gradient of each loss, the losses (n,) or (n, k), and which are fooled."""
        leaf = images.detach().requires_grad_()
        reduced = isinstance(self.model, PerImage) and self.model.reduced
        with torch.enable_grad(), autocast(images.device, enabled=reduced):
            outputs = answer(self.model, leaf, self.rows)
            logits = outputs.float()
            guide = getattr(outputs, "guide", logits)  # the scores behind the outputs of a view
            losses = loss(guide, self.labels)
            last = losses.shape[1] - 1 if losses.ndim == 2 else 0
            gradients = [
                _gradient(losses[:, number] if last else losses, leaf, number < last)
                for number in range(last + 1)
            ]
        logits = logits.detach()
        wrong = self._confirm(images, logits) if reduced else fooled(logits, self.labels)
        return gradients, losses.detach(), wrong

    def _confirm(self, images: Tensor, logits: Tensor) -> Tensor:
        """Return which images are fooled, with float32 passes only where `logits` leave doubt."""
        doubtful = (margin(logits, self.labels) > -DOUBT * magnitude(logits)).nonzero().squeeze(1)
        confirmed = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        if len(doubtful):
            confirmed[doubtful] = self.select(doubtful).fooled(images.index_select(0, doubtful))
        return confirmed


def _gradient(losses: Tensor, leaf: Tensor, keep: bool) -> Tensor:
    """Return the gradient of one loss an image; `keep` retains the graph."""
    gradient = None
    if losses.requires_grad:
        gradient = torch.autograd.grad(losses.sum(), leaf, allow_unused=True, retain_graph=keep)[0]
    if gradient is None:  # a model that cuts the graph (binarised input) has gradient 0
        return torch.zeros_like(leaf, requires_grad=False)
    if 0 in gradient.stride():  # one value for many pixels, which attacks could not change in place
        gradient = gradient.clone(memory_format=torch.contiguous_format)
    return gradient.nan_to_num_(0, 0, 0)


class PerImage(nn.Module):
    """A model that knows which images of the batch under attack it is evaluated on.

    Args:
        model: the model that it evaluates.
        size: number of images under attack.
        reduced: whether gradients may be taken in bf16.
    """

    def __init__(self, model: nn.Module, size: int, device: torch.device, reduced: bool = False):
        super().__init__()
        self.model = model
        self.reduced = reduced
        self.rows: Tensor | None = None
        self.owners = torch.arange(size, device=device)

    def select(self, keep: Tensor) -> Self:
        """Return the model for an attack on only the images in `keep`."""
        part = copy.copy(self)
        part.owners, part.rows = self.owners[keep], None
        return part

    def whose(self, images: Tensor) -> Tensor:
        """Return the index in the whole batch of each image under evaluation, int64."""
        rows, self.rows = self.rows, None
        if rows is None or len(rows) != len(images):  # an attack does not say: they take turns
            rows = torch.arange(len(images), device=images.device) % len(self.owners)
        return self.owners[rows]


class Counted(PerImage):
    """A model that counts the forward and backward passes of each image.

    `undefined` is NaN for an image of which some logits were not finite, else 0.
    """

    def __init__(self, model: nn.Module, size: int, device: torch.device, reduced: bool = False):
        super().__init__(model, size, device, reduced)
        self.forwards = torch.zeros(size, dtype=torch.int64, device=device)
        self.backwards = torch.zeros_like(self.forwards)
        self.undefined = torch.zeros(size, device=device)

    def forward(self, images: Tensor) -> Tensor:
        return self.counted(images, self.model)

    def counted(self, images: Tensor, module: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the output of a part of the model, counted as a pass of the whole."""
        owners = self.whose(images)
        ones = torch.ones_like(owners)
        self.forwards.index_add_(0, owners, ones)
        logits = module(images)
        # not `detach` or `no_grad`, which views of the model replace
        low, high = logits.data.float().flatten(1).aminmax(dim=1)  # a part may return maps
        self.undefined.index_add_(0, owners, (high - low).mul_(0))
        if logits.requires_grad:

            def charge(_: Tensor) -> None:
                self.backwards.index_add_(0, owners, ones)

            logits.register_hook(charge)
        return logits


def answer(model: nn.Module, images: Tensor, rows: Tensor) -> Tensor:
    """Return the logits of images that belong to the images `rows` of the batch under attack."""
    if isinstance(model, PerImage):
        model.rows = rows
    return model(images)


def select(model: nn.Module, keep: Tensor) -> nn.Module:
    """Return the model for an attack within an attack on only the images in `keep`."""
    return model.select(keep) if isinstance(model, PerImage) else model
