"""Random search: gradient-free, inside the ball, and able where gradients lie."""

from __future__ import annotations

import torch
from linear import boxed_optimum, linear_model, saturated_images
from torch import Tensor, nn
from trained import digits_images, digits_model

from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.pgd import PGD
from scotoma.attacks.square import Square
from scotoma.attacks.strong import Strong
from scotoma.claim import TOLERANCE, Threat
from scotoma.utils.random import Randomness


class Quantised(nn.Module):
    """A model that sees 8 grey levels: its gradient is zero everywhere."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images * 7).round() / 7)


def test_breaks_linear_models_a_little_above_the_optimum_and_never_below():
    model, images = linear_model((1, 6, 6), 3, 0), saturated_images(30, (1, 6, 6), 0)
    labels = model(images).argmax(1)
    optimum = boxed_optimum(model, images, labels)
    for factor, most, least in ((0.99, 0, 0), (1.3, 1, 1)):
        for row in range(4):
            threat = Threat("linf", min(1.0, max(1e-4, factor * float(optimum[row]))))
            one, label = images[row : row + 1], labels[row : row + 1]
            adversarial = Square(threat, queries=2000)(model, one, label)
            assert least <= int(fooled(model(adversarial), label)) <= most


def test_asks_for_no_gradient_and_stays_inside():
    model = digits_model()
    images, labels = digits_images(80)
    threat = Threat("linf", 0.2)
    counted = Counted(model, len(images), images.device)
    adversarial = Square(threat, queries=300)(counted, images, labels)
    assert counted.backwards.sum() == 0
    assert counted.forwards.max() <= 301
    assert (adversarial - images).abs().max() <= threat.eps + TOLERANCE
    assert ((adversarial >= 0) & (adversarial <= 1)).all()
    fell = fooled(model(adversarial), labels)
    assert torch.equal(adversarial[~fell], images[~fell])
    assert 0 < fell.float().mean() < 1
    assert torch.equal(
        adversarial,
        Square(threat, queries=300)(model, images, labels, generator=Randomness.default(images)),
    )


def test_a_zero_gradient_stops_pgd_but_not_square_nor_strong():
    model = Quantised(digits_model())
    images, labels = digits_images(30)
    threat = Threat("linf", 0.25)
    right = ~fooled(model(images), labels)

    def broken(adversarial: Tensor) -> float:
        return float((fooled(model(adversarial), labels) & right).float().mean())

    blind = broken(PGD(threat, restarts=1)(model, images, labels))
    assert broken(Square(threat, queries=500)(model, images, labels)) > blind + 0.1
    strong = Strong(threat)(model, images, labels)
    assert ((strong - images).abs().flatten(1).amax(1)[fooled(model(strong), labels)] <= 1).all()
    assert broken(strong) > blind + 0.1
