"""HopSkipJump: closed forms on linear models, its own guarantees, and another implementation."""

from __future__ import annotations

import pytest
import torch
from decisions import Quantised, l2_optimum, problem
from linear import boxed_optimum
from torch import Tensor
from trained import correct_digits, digits_images, digits_model

from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.hop_skip_jump import HopSkipJump


@pytest.mark.parametrize(("norm", "factor"), [("l2", 1.06), ("linf", 1.15)])
@pytest.mark.parametrize("shape", [(1, 6, 6), (1, 8, 8)])
def test_comes_near_the_optimum_of_linear_models(
    norm: str, factor: float, shape: tuple[int, int, int]
):
    model, images, labels = problem(20, shape, classes=2)
    optimum = (
        l2_optimum(model, images, labels)
        if norm == "l2"
        else boxed_optimum(model.model, images, labels)
    )
    adversarial = HopSkipJump(norm, queries=2500)(model, images, labels)
    ratio = size(adversarial - images, norm) / optimum
    assert fooled(model(adversarial), labels).all()
    assert ratio.min() > 1 - 1e-4
    assert ratio.mean() < factor


@pytest.mark.parametrize("norm", HopSkipJump.norms)
def test_more_queries_come_nearer_and_are_nearly_all_used(norm: str):
    model, images, labels = problem(20)
    counted = Counted(model, len(images), images.device)
    less, more = (
        size(HopSkipJump(norm, queries)(counted, images, labels) - images, norm).mean()
        for queries in (400, 3000)
    )
    assert more < less
    assert counted.forwards.min() > 0.8 * 3400
    assert counted.forwards.max() <= 3400


def test_how_probes_are_split_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    model, images, labels = problem(6)
    attack = HopSkipJump("l2", queries=700)
    whole = attack(model, images, labels)
    sizes = []

    def small(_device: torch.device, _pixels: int) -> int:
        return 20

    def watch(_module: object, inputs: tuple[Tensor]) -> None:
        sizes.append(len(inputs[0]))

    monkeypatch.setattr("scotoma.attacks.hop_skip_jump.batch_size", small)
    model.register_forward_pre_hook(watch)
    assert torch.allclose(attack(model, images, labels), whole, atol=1e-5)
    assert max(sizes) <= 20


@pytest.mark.parametrize(("norm", "share"), [("l2", 0.8), ("linf", 0.95)])
def test_breaks_a_model_without_gradient(norm: str, share: float):
    """It comes nearer than its start: probes grow until they cross the steps of grey levels."""
    model, (images, labels) = Quantised(digits_model()), digits_images(20)
    right = ~fooled(model(images), labels)
    start, end = (HopSkipJump(norm, queries)(model, images, labels) for queries in (300, 2000))
    assert fooled(model(end), labels)[right].all()
    assert torch.equal((end != images).flatten(1).any(1), right)
    assert size(end - images, norm)[right].mean() < share * size(start - images, norm)[right].mean()


@pytest.mark.parametrize("norm", HopSkipJump.norms)
def test_nearer_than_another_implementation(norm: str):
    foolbox = pytest.importorskip("foolbox")
    model, images, labels = correct_digits(20)
    peer = Counted(model, len(images), images.device).eval()
    attack = foolbox.attacks.HopSkipJumpAttack(steps=6, constraint=norm)
    torch.manual_seed(0)
    _, theirs, won = attack(
        foolbox.PyTorchModel(peer, bounds=(0, 1), device="cpu"), images, labels, epsilons=None
    )
    ours = HopSkipJump(norm, queries=1000)(model, images, labels)
    assert won.all()
    assert fooled(model(ours), labels).all()
    assert peer.forwards.min() > 1000
    assert size(ours - images, norm).median() < size(theirs - images, norm).median()
