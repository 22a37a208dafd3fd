"""What every L0 attack that follows gradients must do."""

from __future__ import annotations

import decisions
import torch
from decisions import Attack, Exact, contract, l0_optimum, problem
from linear import Undefined
from torch import Tensor

from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import size


def hard(n: int, shape: tuple[int, int, int], classes: int) -> tuple[Exact, Tensor, Tensor, Tensor]:
    """A linear model, the `n` images of many that take the most pixels, and how many they take."""
    model, images, labels = problem(500, shape, classes)
    optimum = l0_optimum(model, images, labels)
    fewest = optimum.argsort(descending=True)[:n]
    return model, images[fewest], labels[fewest], optimum[fewest]


def ratio(attack: Attack, shape: tuple[int, int, int], classes: int) -> float:
    """The mean of the pixels changed over those needed; every image is fooled."""
    model, images, labels, optimum = hard(20, shape, classes)
    adversarial = attack(model, images, labels)
    assert fooled(model(adversarial), labels).all()
    changed = size(adversarial - images, "l0")
    assert (changed >= optimum).all()
    assert optimum.min() > 3
    return float((changed / optimum).mean())


def keeps_its_promises(attack: Attack) -> None:
    """Those of every attack, and only images that are not fooled yet cost a gradient."""
    for counted in contract(attack, "l0", 0.9):
        assert counted.backwards[:3].tolist() == [0] * 3
        assert counted.backwards[3:].min() > 0


def no_pixel_alone_can_be_taken_back(attack: Attack) -> None:
    model, images, labels, _ = hard(10, (2, 6, 6), 3)
    adversarial = attack(model, images, labels)
    for number in range(36):
        mask = torch.zeros(36, dtype=torch.bool)
        mask[number] = True
        back = torch.where(mask.view(6, 6), images, adversarial)
        changed = (adversarial != images).any(1).flatten(1)[:, number]
        assert not (fooled(model(back), labels) & changed).any()


def gives_up(attack: Attack) -> None:
    """No images, all misclassified, nothing fools, a hidden gradient, and an undefined one."""
    decisions.gives_up(attack)
    model, images, _ = problem(4)
    images[:, 0, 0, 0] = 0
    labels = model(images).argmax(1)
    adversarial = attack(Undefined(model), images, labels)
    assert adversarial.isfinite().all()
    assert fooled(model(adversarial), labels).all()
