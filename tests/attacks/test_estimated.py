"""Estimated gradients: autograd and linear models, the edge of the box, and what they cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from decisions import Exact, Quantised, problem
from linear import saturated_images
from torch import Tensor, nn
from trained import correct_digits, digits_images, digits_model

from scotoma.attacks.core.losses import cross_entropy, fooled, margin
from scotoma.attacks.core.oracle import Counted, Oracle, PerImage, select
from scotoma.attacks.estimated import Estimated
from scotoma.attacks.fmn import FMN
from scotoma.attacks.pgd import PGD
from scotoma.execution.fingerprint import describe, name
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

THREAT = Threat("linf", 0.3)
Loss = Callable[[Tensor, Tensor], Tensor]


class Smooth(nn.Module):
    """A small network without kinks, in float64."""

    def __init__(self, shape: tuple[int, int, int], classes: int = 5):
        super().__init__()
        self.first, self.second = (
            Exact(shape, 20),
            nn.Linear(20, classes).double().requires_grad_(False),
        )
        self.second.weight.copy_(
            torch.randn(classes, 20, generator=torch.Generator().manual_seed(1))
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.second((self.first(images) / 10).sin())


def gradients(
    model: nn.Module, images: Tensor, labels: Tensor, loss: Loss, times: int = 1, **settings: object
) -> Tensor:
    """The gradient that an attack inside `Estimated` gets the last of so many `times`."""
    results = []

    def attack(
        model: nn.Module, images: Tensor, labels: Tensor, generator: Randomness | None = None
    ) -> Tensor:
        assert generator is not None
        assert isinstance(model, PerImage)
        assert not model.reduced
        results.extend(Oracle(model, labels).value_and_grad(images, loss) for _ in range(times))
        return images

    Estimated(attack, **settings)(model, images, labels)  # type: ignore[arg-type]
    exact = Oracle(model, labels).value_and_grad(images, loss)
    assert torch.equal(results[-1].loss, exact.loss)
    assert torch.equal(results[-1].fooled, exact.fooled)
    return results[-1].gradient


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 5, 4)])
@pytest.mark.parametrize("loss", [margin, cross_entropy])
@pytest.mark.parametrize("step", [0.1, 1.0])
def test_is_exact_on_linear_models_up_to_the_edge(
    shape: tuple[int, int, int], loss: Loss, step: float
):
    model, images, labels = problem(9, shape)
    assert ((images == 0) | (images == 1)).float().mean() > 0.5
    exact = Oracle(model, labels).value_and_grad(images, loss).gradient
    assert torch.allclose(gradients(model, images, labels, loss, step=step), exact, atol=1e-5)
    turned = images.to(memory_format=torch.channels_last)
    assert torch.allclose(gradients(model, turned, labels, loss, step=step), exact, atol=1e-5)


def test_is_near_autograd_on_a_smooth_model_the_nearer_the_smaller_the_step():
    model, images = Smooth((2, 5, 5)), saturated_images(8, (2, 5, 5), share=0.0).clamp(0.2, 0.8)
    labels = model(images).argmax(1)
    exact = Oracle(model, labels).value_and_grad(images, cross_entropy).gradient
    errors = [
        float(
            (gradients(model, images, labels, cross_entropy, step=step) - exact).norm()
            / exact.norm()
        )
        for step in (0.2, 0.1, 0.01)
    ]
    assert errors[0] > 3 * errors[1] > 30 * errors[2], "central differences: the square of the step"
    assert errors[2] < 1e-3


def test_random_directions_are_right_on_average():
    model, images, labels = problem(6, (1, 4, 4))
    exact = Oracle(model, labels).value_and_grad(images, margin).gradient
    few, many = (gradients(model, images, labels, margin, directions=k) for k in (40, 4000))
    far, near = (float((estimate - exact).norm() / exact.norm()) for estimate in (few, many))
    assert near < 0.1
    assert 5 < far / near < 20, "with the root of their number"
    repeated = gradients(model, images, labels, margin, times=2, directions=40)
    assert not torch.allclose(repeated, few), "every gradient draws its own"


@pytest.mark.parametrize("directions", [None, 40])
def test_an_image_alone_is_as_in_a_batch(directions: int | None):
    model, images, labels = correct_digits(12)
    attack = Estimated(FMN("linf", steps=4), directions=directions)
    numbers = Randomness(5, torch.arange(len(images)))
    together = attack(model, images, labels, generator=numbers)
    for i in (0, len(images) - 1):
        alone = attack(
            model, images[i : i + 1], labels[i : i + 1], generator=numbers.select(torch.tensor([i]))
        )
        assert torch.allclose(alone[0], together[i], atol=1e-4)


@pytest.mark.parametrize(("directions", "price"), [(None, 2 * 48), (1, 2), (50, 100)])
def test_passes_are_charged_exactly(directions: int | None, price: int):
    model, images, labels = problem(7, (3, 4, 4))
    labels = labels.clone()
    labels[:2] = (labels[:2] + 1) % 5
    counted = Counted(model, len(images), images.device, reduced=True)
    adversarial = Estimated(FMN("linf", steps=3), directions=directions)(counted, images, labels)
    assert counted.forwards.tolist() == [1] * 2 + [1 + 3 * (1 + price) + 1] * (len(images) - 2)
    assert counted.backwards.tolist() == [0] * len(images)
    assert torch.equal(adversarial[:2], images[:2])


def test_blocks_of_any_size_give_the_same(monkeypatch):
    model, images, labels = problem(5, (3, 4, 4))
    whole = gradients(model, images, labels, cross_entropy)
    pixel_counts = []

    def small(device: torch.device, pixels: int) -> int:
        pixel_counts.append(pixels)
        return 14

    monkeypatch.setattr("scotoma.attacks.estimated.batch_size", small)
    sizes = []
    handle = model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    parts = gradients(model, images, labels, cross_entropy)
    handle.remove()
    assert pixel_counts == [48]
    assert max(sizes) <= 14
    assert torch.allclose(parts, whole, atol=1e-6)


def test_never_in_reduced_precision():
    model, images, labels = problem(3)
    counted = Counted(model, len(images), images.device, reduced=True)
    assert torch.allclose(
        gradients(counted, images, labels, margin), gradients(model, images, labels, margin)
    )


def test_an_attack_within_an_attack_is_charged_for_its_images():
    model, images, labels = problem(6, (1, 4, 4))
    counted = Counted(model, len(images), images.device)
    rows = torch.tensor([4, 1])

    def attack(
        model: nn.Module, images: Tensor, labels: Tensor, generator: Randomness | None = None
    ) -> Tensor:
        inner = select(model, rows)
        first = Oracle(inner, labels[rows])
        first.select(torch.tensor([1])).value_and_grad(images[rows[1:]], margin)
        inner(images[rows])  # an attack that does not say
        return images

    Estimated(attack)(counted, images, labels)
    assert counted.forwards.tolist() == [0, 1 + 32 + 1, 0, 0, 1, 0]


def test_a_loss_without_a_slope_costs_nothing():
    model, images, labels = problem(6, (1, 4, 4))
    counted = Counted(model, len(images), images.device)

    def half(logits: Tensor, labels: Tensor) -> Tensor:
        return margin(logits, labels) * (torch.arange(len(labels)) % 2)

    slopes = gradients(counted, images, labels, half)
    assert counted.forwards.tolist() == [2, 2 + 32] * 3, "one of them for the exact gradient"
    assert (slopes[::2] == 0).all()
    assert (slopes[1::2] != 0).any()


def test_pgd_wins_where_rounding_hides_the_gradient():
    images, labels = digits_images(30)
    model = Quantised(digits_model())
    labels = model(images).argmax(1)
    attack = PGD(Threat("linf", 0.4), steps=6)
    blind, seeing = (
        fooled(model(a(model, images, labels)), labels).float().mean()
        for a in (attack, Estimated(attack))
    )
    assert seeing > blind + 0.3
    assert seeing > 0.8


def test_gradients_that_are_not_finite_do_not_spread():
    class Undefined(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            far = (images[:, 0, 0, 0] - 0.45).sqrt()  # NaN a step below 0.5
            return torch.stack([images.sum((1, 2, 3)) - 8, 0 * far], 1)

    images, labels = torch.full((3, 1, 4, 4), 0.49), torch.ones(3, dtype=torch.int64)
    slopes = gradients(Undefined(), images, labels, margin)
    assert slopes.isfinite().all()
    assert (slopes[:, 0, 0, 0] == 0).all()
    assert torch.allclose(slopes[:, 0, 1:], torch.ones(3, 3, 4), atol=1e-4)


def test_nothing_to_do():
    model, images, labels = problem(4)
    attack = Estimated(FMN("linf", steps=3))
    assert attack(model, images[:0], labels[:0]).shape == (0, 1, 6, 6)
    assert torch.equal(attack(model, images, (labels + 1) % 5), images)


def test_names_norms_and_bad_settings():
    inner = PGD(Threat("l2", 1.0), steps=3)
    attack = Estimated(inner)
    assert attack.norm == inner.norm
    assert name(attack) == f"Estimated(attack={name(inner)}, step=0.1, directions=None)"
    assert describe(attack)["attack"] == describe(inner)
    assert describe(attack) != describe(Estimated(inner, directions=10))
    for settings in ({"step": 0.0}, {"step": 1.5}, {"step": float("nan")}, {"directions": 0}):
        with pytest.raises(InputError):
            Estimated(inner, **settings)  # type: ignore[arg-type]
