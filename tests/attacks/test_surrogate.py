"""A network fitted to the model's answers, and examples crafted on it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from decisions import Constant, Quantised, contract
from torch import Tensor, nn
from trained import digits_images, digits_model

from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.pgd import PGD
from scotoma.attacks.square import Square
from scotoma.attacks.surrogate import Surrogate, small_network
from scotoma.claim import TOLERANCE, Threat
from scotoma.utils.random import Randomness

QUICK = {"queries": 40, "rounds": 2, "steps": 40}


class Votes(nn.Module):
    """A model that says its class alone."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        return F.one_hot(logits.argmax(1), logits.shape[1]).float()


def share(model: nn.Module, adversarial: Tensor, images: Tensor, labels: Tensor) -> float:
    right = ~fooled(model(images), labels)
    return float(fooled(model(adversarial), labels)[right].float().mean())


@pytest.mark.parametrize("text", ["linf:0.5", "l2:1.5"])
def test_promises(text: str):
    threat = Threat.parse(text)
    for counted in contract(Surrogate(threat, **QUICK), threat.norm, 0.2):
        assert counted.forwards.max() <= 40
        assert counted.backwards.sum() == 0


@pytest.mark.parametrize("text", ["linf:0.2", "l2:0.8"])
def test_stays_inside_and_is_deterministic(text: str):
    model, (images, labels) = digits_model(), digits_images(20)
    threat = Threat.parse(text)
    state = torch.random.get_rng_state()
    adversarial = Surrogate(threat, **QUICK)(model, images, labels)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert size(adversarial - images, threat.norm).max() <= threat.eps + TOLERANCE
    torch.manual_seed(7)
    assert torch.equal(adversarial, Surrogate(threat, **QUICK)(model, images, labels))
    other = Randomness(1, torch.arange(len(images)))
    assert not torch.equal(
        adversarial, Surrogate(threat, **QUICK)(model, images, labels, generator=other)
    )


@pytest.mark.parametrize(("kind", "gain"), [(Quantised, 0.1), (Votes, 0.05)])
def test_fools_what_has_no_gradient(kind: type[nn.Module], gain: float):
    model, (images, labels) = kind(digits_model()), digits_images(80)
    blind = PGD("linf:0.25")(model, images, labels)
    noise = Surrogate("linf:0.25", queries=40, rounds=0)(model, images, labels)
    adversarial = Surrogate("linf:0.25")(model, images, labels)
    others = [blind, noise]
    if kind is Votes:  # which random search cannot follow
        others.append(Square("linf:0.25", queries=80)(model, images, labels))
    least = max(share(model, other, images, labels) for other in others)
    assert share(model, adversarial, images, labels) > least + gain


def test_search_goes_on_from_the_examples():
    model, (images, labels) = Quantised(digits_model()), digits_images(60)
    counted = Counted(model, len(images), images.device)
    without = Surrogate("linf:0.15", **QUICK)(model, images, labels)
    searched = Surrogate("linf:0.15", **QUICK, search=150)(counted, images, labels)
    fell = fooled(model(without), labels)
    assert torch.equal(searched[fell], without[fell])
    assert share(model, searched, images, labels) > share(model, without, images, labels)
    assert counted.forwards.max() <= 40 + 151


def test_gives_up():
    images = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(4, dtype=torch.int64)
    attack = Surrogate("linf:0.2", **QUICK)
    assert torch.equal(attack(Constant(), images, ones), images)
    assert torch.equal(attack(Constant(), images, 0 * ones), images)
    assert attack(Constant(), images[:0], ones[:0]).shape == (0, 1, 6, 6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 2), (3, 5, 4), (1, 28, 28)])
def test_the_network_takes_images_of_any_size(shape: tuple[int, int, int]):
    assert small_network(shape, 4)(torch.zeros(2, *shape)).shape == (2, 4)
