"""Promises of all attacks and of decision-based ones, and least distances on linear models."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from linear import clearly_classified, linear_model, saturated_images
from torch import Tensor, nn

from scotoma.attacks.core.losses import GUARD, fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.utils.random import Randomness

Attack = Callable[..., Tensor]
SHAPE = (1, 6, 6)


class Exact(nn.Module):
    """A linear model in float64, which says the same of an image in any batch."""

    def __init__(self, shape: tuple[int, int, int], classes: int, seed: int = 0):
        super().__init__()
        self.model = linear_model(shape, classes, seed).double()

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.double())

    @property
    def weight(self) -> Tensor:
        """Of each class, (classes, values)."""
        layer = self.model[1]
        assert isinstance(layer, nn.Linear)
        return layer.weight


class Quantised(nn.Module):
    """A model that sees 8 grey levels: its gradient is zero everywhere."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images * 7).round() / 7)


class Constant(nn.Module):
    """Says class 1 of everything."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.tensor([0.0, 1.0, 0.5]).repeat(len(images), 1)


def problem(
    n: int, shape: tuple[int, int, int] = SHAPE, classes: int = 5, seed: int = 0
) -> tuple[Exact, Tensor, Tensor]:
    """Return a linear model, and images of its classes farther from the boundary than rounding."""
    model, images = Exact(shape, classes, seed), saturated_images(n, shape, seed, share=0.6)
    return model, *clearly_classified(model, images)


def _slopes(model: Exact, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the margins' slopes (n, classes, values), and what the margins lack (n, classes)."""
    logits = model(images)
    lack = logits.gather(1, labels[:, None]) - logits
    lack = (lack + GUARD * logits.abs().amax(1, keepdim=True)).scatter(
        1, labels[:, None], torch.inf
    )
    return model.weight[None] - model.weight[labels][:, None], lack


def l2_optimum(model: Exact, images: Tensor, labels: Tensor) -> Tensor:
    """Return the least L2 distance that fools in [0, 1], float64 (n,): along the clipped slope."""
    slope, lack = _slopes(model, images, labels)
    x = images.flatten(1).double()[:, None]

    def change(scale: Tensor) -> Tensor:
        return (scale[..., None] * slope).maximum(-x).minimum(1 - x)

    low, high = torch.zeros_like(lack), torch.full_like(lack, 1e3)
    for _ in range(60):
        middle = (low + high) / 2
        enough = (change(middle) * slope).sum(-1) >= lack
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    reached = (change(high) * slope).sum(-1) >= lack
    return change(high).norm(dim=-1).masked_fill(~reached, torch.inf).amin(1)


def l0_optimum(model: Exact, images: Tensor, labels: Tensor) -> Tensor:
    """Return the fewest pixels that fool in [0, 1], int64 (n,): those with the largest gains."""
    slope, lack = _slopes(model, images, labels)
    x = images.flatten(1).double()[:, None]
    gain = torch.where(slope > 0, slope * (1 - x), -slope * x)
    pixels = gain.unflatten(2, (images.shape[1], -1)).sum(2)
    enough = pixels.sort(dim=2, descending=True).values.cumsum(2) >= lack[..., None]
    return torch.where(enough.any(2), enough.int().argmax(2) + 1, pixels.shape[2] + 1).amin(1)


def contract(attack: Attack, norm: str, share: float) -> Iterator[Counted]:
    """Return the passes of problems whose first three images are misclassified.

    Results lie in [0, 1], only fooled images change, at least `share` of them; inputs stay as they
    are, and misclassified images cost one query.
    """
    for shape in (SHAPE, (3, 5, 4)):
        model, images, labels = problem(12, shape)
        before = images.clone()
        labels = labels.clone()
        labels[:3] = (labels[:3] + 1) % 5
        counted = Counted(model, len(images), images.device)
        adversarial = attack(
            counted, images, labels, generator=Randomness(1, torch.arange(len(images)))
        )
        assert torch.equal(images, before)
        assert adversarial.shape == images.shape
        assert adversarial.dtype == images.dtype
        assert adversarial.min() >= 0
        assert adversarial.max() <= 1
        assert torch.equal(adversarial[:3], images[:3])
        won = fooled(model(adversarial), labels)
        assert torch.equal(size(adversarial - images, norm)[3:] > 0, won[3:])
        assert won.float().mean() >= share
        assert counted.forwards[:3].tolist() == [1] * 3
        yield counted


def keeps_its_promises(attack: Attack, norm: str, queries: int) -> None:
    """Those of every attack, and no image costs more than `queries` or a gradient."""
    for counted in contract(attack, norm, 0.7):
        assert counted.forwards.max() <= queries
        assert counted.backwards.sum() == 0


def knows_no_batch(attack: Attack) -> None:
    """An image's result does not depend on batch, order or layout; another seed gives another."""
    model, images, labels = problem(6, (3, 6, 6))
    together = attack(model, images, labels, generator=Randomness(3, torch.arange(len(images))))
    order = torch.arange(len(images)).flip(0)
    backwards = images[order].contiguous(memory_format=torch.channels_last)
    turned = attack(model, backwards, labels[order], generator=Randomness(3, order))
    assert torch.allclose(turned, together[order], atol=1e-5)
    for i in (0, len(images) - 1):
        alone = attack(
            model, images[i : i + 1], labels[i : i + 1], generator=Randomness(3, torch.tensor([i]))
        )
        assert torch.allclose(alone[0], together[i], atol=1e-5)


def gives_up(attack: Attack) -> None:
    """No images, images that are all wrong and a model that nothing fools."""
    model, images, labels = problem(4)
    assert attack(model, images[:0], labels[:0]).shape == (0, *SHAPE)
    assert torch.equal(attack(model, images, (labels + 1) % 5), images)
    ones = torch.ones(len(images), dtype=torch.int64)
    assert torch.equal(attack(Constant(), images, ones), images)
