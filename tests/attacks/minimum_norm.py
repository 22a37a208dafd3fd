"""What every minimum-norm attack by gradients must do."""

from __future__ import annotations

import torch
from decisions import SHAPE, Attack, Constant, Exact, Quantised, contract, problem
from torch import Tensor, nn

from scotoma.attacks.core.losses import GUARD, fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted


class Torn(nn.Module):
    """NaN logits where the first value is above 1/2, and an undefined derivative where it is 0."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        first = images[:, 0, 0, :1]
        return (self.model(images) + 0 * first.sqrt()).masked_fill(first > 0.5, torch.nan)


def open_problem(
    n: int, shape: tuple[int, int, int] = SHAPE, classes: int = 2
) -> tuple[Exact, Tensor, Tensor]:
    """A linear model, and grey images so near its boundary that the box is out of the way."""
    model = Exact(shape, classes)
    layer = model.model[1]
    assert isinstance(layer, nn.Linear)
    layer.bias.copy_(layer.weight.sum(1) * -0.3)  # of the -0.5 that make grey a tie
    images = torch.rand(n, *shape, generator=torch.Generator().manual_seed(0)).mul_(0.02).add_(0.49)
    return model, images, model(images).argmax(1)


def nearest_boundary(model: Exact, images: Tensor, labels: Tensor, norm: str) -> Tensor:
    """Return the least distance in `norm` that fools a linear model without a box, float64 (n,)."""
    logits = model(images)
    lack = logits.gather(1, labels[:, None]) - logits + GUARD * logits.abs().amax(1, keepdim=True)
    slope = model.weight[None] - model.weight[labels][:, None]
    steepness = torch.linalg.vector_norm(slope, {"linf": 1, "l2": 2, "l1": torch.inf}[norm], dim=-1)
    return (lack / steepness).scatter(1, labels[:, None], torch.inf).amin(1)


def keeps_its_promises(attack: Attack, norm: str, share: float = 0.9) -> None:
    """Those of every attack, and wrong images cost one gradient at most."""
    for counted in contract(attack, norm, share):
        assert (counted.forwards[3:] > 1).all()
        assert counted.backwards[:3].max() <= 1


def survives(attack: Attack) -> None:
    """NaN logits, undefined derivatives, none at all, logits all 0, and a model nothing fools."""
    model, images, _ = problem(12)
    images[:4, 0, 0, 0], images[4:8, 0, 0, 0], images[8:, 0, 0, 0] = 1, 0, 0.4
    labels = model(images).argmax(1)
    run = Counted(Torn(model), len(images), images.device)  # a call by hand refuses NaN
    adversarial = attack(run, images, labels)
    assert torch.equal(adversarial[:4], images[:4])
    assert adversarial.isfinite().all()
    won = fooled(Torn(model)(adversarial), labels)
    assert torch.equal((adversarial != images).flatten(1).any(1), won)
    assert won[4:8].all()
    flat = Quantised(model)
    adversarial = attack(flat, images, labels)
    moved = (adversarial != images).flatten(1).any(1)
    assert fooled(flat(adversarial), labels)[moved].all()
    assert torch.equal(attack(Constant(), images, torch.ones_like(labels)), images)
    blank, first = torch.zeros(2, *SHAPE), torch.zeros(2, dtype=torch.int64)
    adversarial = attack(model, blank, first)
    assert fooled(model(adversarial), first).all()
    assert size(adversarial, "linf").max() < 0.01
