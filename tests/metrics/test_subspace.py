"""Gradient-aligned orthogonal directions, and linear models with known thresholds."""

from __future__ import annotations

import math

import pytest
import torch
from known_surfaces import SHAPE, Shape, TwoClass, bent, grey, linear, weight, zeros
from torch import Tensor

from scotoma.attacks.core.losses import margin
from scotoma.attacks.core.oracle import Counted
from scotoma.metrics.subspace import (
    ORDERS,
    adversarial_directions,
    directions,
    orders_within,
    survival,
)
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness
from scotoma.utils.stats import rate

LINF, L2 = Threat("linf", 0.1), Threat("l2", 0.5)
THREATS = pytest.mark.parametrize("threat", [LINF, L2], ids=str)
LARGE = (3, 24, 20)
"""Whose 1,440 values 4, 16 and 36 divide; 64 and 100 do not."""


def gradients(n: int, shape: Shape, share: float = 1.0) -> Tensor:
    """Normal numbers, all but a share of them 0."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn((n, *shape), generator=generator)
    return values * (torch.rand(values.shape, generator=generator) < share)


def written(gradient: Tensor, threat: Threat, order: int, at_once: int = 7) -> Tensor:
    """All directions, float64 (n, order, d)."""
    parts = directions(gradient, threat, order, Randomness.default(gradient), at_once)
    return torch.cat(list(parts)).flatten(2).transpose(0, 1).double()


@THREATS
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("shape", "share"), [(LARGE, 1.0), (LARGE, 0.3), ((1, 10, 11), 0.5)])
def test_directions_are_orthogonal_and_of_size_eps(
    threat: Threat, order: int, shape: Shape, share: float
):
    perturbations = written(gradients(3, shape, share), threat, order)
    assert perturbations.shape == (3, order, math.prod(shape))
    products = perturbations @ perturbations.transpose(1, 2)
    squared = threat.eps**2 * (math.prod(shape) // order * order if threat is LINF else 1)
    assert torch.allclose(
        products, (squared * torch.eye(order)).double().expand_as(products), atol=1e-6 * squared
    )
    if threat is LINF:
        assert torch.allclose(perturbations.abs().amax(2), torch.tensor(0.1).double())
        left_out = (perturbations == 0).all(1).sum(1)
        assert left_out.tolist() == [math.prod(shape) % order] * 3


@pytest.mark.parametrize("order", ORDERS)
def test_mean_alignment_in_linf(order: int):
    """eps ||g||_1 / sqrt(k) where k divides the number of values, else a little less."""
    gradient = gradients(5, LARGE, 0.8)
    aligned = (written(gradient, LINF, order) @ gradient.flatten(1).double()[:, :, None]).squeeze(2)
    bound = LINF.eps * gradient.flatten(1).double().norm(1, 1) / math.sqrt(order)
    rest = gradient[0].numel() % order
    assert bool(rest) is (order in (64, 100))
    left_out = gradient.flatten(1).abs().sort(1).values[:, :rest].sum(1).double()
    assert torch.allclose(
        aligned.mean(1), bound - LINF.eps * left_out / math.sqrt(order), rtol=1e-5
    )
    assert aligned.min() > 0


@pytest.mark.parametrize("order", ORDERS)
def test_each_alignment_in_l2(order: int):
    gradient = gradients(5, LARGE, 0.5)
    aligned = (written(gradient, L2, order) @ gradient.flatten(1).double()[:, :, None]).squeeze(2)
    bound = L2.eps * gradient.flatten(1).double().norm(dim=1) / math.sqrt(order)
    assert torch.allclose(aligned, bound[:, None].expand(-1, order), rtol=1e-4)


@THREATS
def test_a_constant_gradient_and_none(threat: Threat):
    """Signs are their own L2 gradient; a gradient of zeros leaves every sign to chance."""
    for gradient in (
        torch.ones(2, *LARGE),
        torch.full((2, *LARGE), -1e-30),
        torch.zeros(2, *LARGE),
    ):
        perturbations = written(gradient, threat, 16)
        products = perturbations @ perturbations.transpose(1, 2)
        assert torch.allclose(
            products / products[0, 0, 0], torch.eye(16).double().expand_as(products), atol=1e-5
        )
    assert not torch.allclose(perturbations[0], perturbations[1])
    assert abs(float(perturbations.sign().mean())) < 0.02


def test_blocks_are_drawn_at_random_for_each_image_and_order():
    """Neighbours change together as often as any two values in different blocks."""
    gradient = torch.ones(200, 1, 16, 16)
    perturbations = written(gradient, LINF, 16).sign()
    together = (perturbations[:, :, 0] == perturbations[:, :, 1]).all(1).float().mean()
    assert float(together) == pytest.approx(15 / 255, abs=4 * math.sqrt(0.06 / 200))
    assert len(torch.unique(perturbations.flatten(1), dim=0)) == 200


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_the_threshold_of_a_linear_model_with_equal_weights(order: int, factor: float):
    """w^T r is eps |w| d / sqrt(k) for every direction; each order divides d = 14,400."""
    shape = (1, 120, 120)
    eps = factor * math.sqrt(order) * 5.0 / (0.1 * 14_400)
    model = linear(weight(shape).sign() * 0.1, margin=5.0)
    counts = adversarial_directions(
        model, torch.full((2, *shape), 0.5), zeros(2), Threat("linf", eps), [order]
    )
    assert counts.tolist() == [[order if factor > 1 else 0]] * 2


@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_the_threshold_of_any_linear_model_in_l2(factor: float):
    """w^T r is eps ||w|| / sqrt(k); with eps between two thresholds the smaller orders fool."""
    w = weight(LARGE)
    eps = factor * math.sqrt(36) * 1.0 / float(w.norm())
    counts = adversarial_directions(
        linear(w), torch.full((4, *LARGE), 0.5), zeros(4), Threat("l2", eps), orders_within(len(w))
    )
    assert counts.tolist() == [[4, 16, 36 if factor > 1 else 0, 0, 0]] * 4


def test_which_directions_fool_a_linear_model_with_any_weights():
    """Counted one by one, on colour images."""
    shape = (3, 6, 8)
    w = weight(shape)
    model, images = linear(w, margin=0.6), grey(12, shape)
    threat, random = Threat("linf", 0.05), Randomness(3, torch.arange(12))
    counts = adversarial_directions(model, images, zeros(12), threat, random=random)
    for column, order in enumerate(ORDERS):
        parts = directions(
            w.view(1, *shape).expand(12, -1, -1, -1),
            threat,
            order,
            random.fork(order),
            at_once=order,
        )
        gain = next(iter(parts)).flatten(2) @ w
        fools = (images.flatten(1) - 0.5) @ w - 0.6 + gain > 0
        assert counts[:, column].tolist() == fools.sum(0).tolist()
    assert len(counts.unique()) > 5


def test_black_and_white_pixels_are_clipped():
    """On black images only the increases of a direction count."""
    shape, order = (1, 8, 8), 16
    w = weight(shape).abs()
    threat, random = Threat("linf", 0.3), Randomness.default(torch.zeros(5, *shape))
    images = torch.zeros(5, *shape)
    parts = directions(
        w.view(1, *shape).expand(5, -1, -1, -1), threat, order, random.fork(order), order
    )
    rises = next(iter(parts)).flatten(2).clamp(0, 1) @ w
    threshold = float(rises.median()) + 1e-4
    model = TwoClass(lambda x: x @ w - threshold)
    counts = adversarial_directions(model, images, zeros(5), threat, [order], random)
    assert counts.squeeze(1).tolist() == (rises > threshold).sum(0).tolist()


def test_a_model_whose_cross_entropy_vanishes_can_be_asked_by_its_margin():
    w = weight(LARGE)
    model, images, threat = (
        linear(w, scale=1000),
        torch.full((3, *LARGE), 0.5),
        Threat("l2", 10 / float(w.norm())),
    )
    assert not adversarial_directions(linear(w, 9.9, 1000), images, zeros(3), threat, [4]).any()
    assert (
        adversarial_directions(model, images, zeros(3), threat, [4, 16], loss=margin)
        == torch.tensor([4, 16])
    ).all()


def test_a_model_without_gradient_is_tried_in_random_directions():
    """A step function of the mean: random signs do not reach it."""
    model = TwoClass(lambda x: torch.sign(x.mean(1) - 0.55))
    assert not adversarial_directions(
        model, torch.full((3, *SHAPE), 0.5), zeros(3), LINF, [4, 16, 64]
    ).any()


@THREATS
def test_any_split_gives_the_same(monkeypatch, threat: Threat):
    model, images = bent(), grey(11)
    labels = model(images).argmax(1)
    random = Randomness(5, torch.arange(11))
    whole = adversarial_directions(model, images, labels, threat, [36, 4], random)
    assert len(whole.unique()) > 3
    for batch in (1, 4, 100):
        monkeypatch.setattr(
            "scotoma.metrics.subspace.batch_size", lambda device, pixels, batch=batch: batch
        )
        assert torch.equal(
            adversarial_directions(model, images, labels, threat, [36, 4], random), whole
        )
    part = torch.tensor([7, 2])
    alone = adversarial_directions(
        model, images[part], labels[part], threat, [4], random.select(part)
    )
    assert torch.equal(alone, whole[part, 1:])
    assert not torch.equal(
        adversarial_directions(
            model, images, labels, threat, [36, 4], Randomness(6, torch.arange(11))
        ),
        whole,
    )


def test_no_batch_is_larger_than_allowed_and_passes_are_charged(monkeypatch):
    monkeypatch.setattr("scotoma.metrics.subspace.batch_size", lambda device, pixels: 10)
    largest = 0

    def function(x: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, len(x))
        return x.sum(1) - 33

    counted = Counted(TwoClass(function), 13, torch.device("cpu"))
    adversarial_directions(counted, grey(13), zeros(13), LINF, [4, 16])
    assert largest == 10
    assert counted.forwards.tolist() == [1 + 4 + 16] * 13
    assert counted.backwards.tolist() == [1] * 13


def test_no_images():
    assert adversarial_directions(bent(), grey(0), zeros(0), LINF, [4, 16]).shape == (0, 2)


def test_images_need_as_many_values_as_directions():
    assert orders_within(64) == (4, 16, 36, 64)
    assert orders_within(3072) == ORDERS
    with pytest.raises(InputError, match="100 orthogonal directions need"):
        adversarial_directions(bent(), grey(2), zeros(2), LINF)
    with pytest.raises(InputError, match="order 8"):
        adversarial_directions(bent(), grey(2), zeros(2), LINF, [8])


def test_survival_is_of_the_largest_count():
    counts = torch.tensor([[4, 3], [0, 0], [1, 2], [0, 7]])
    assert survival(counts, 8) == [
        rate((torch.tensor([4, 0, 2, 7]) >= k).numpy()) for k in range(1, 9)
    ]
    assert [share.value for share in survival(counts, 8)] == [
        0.75,
        0.75,
        0.5,
        0.5,
        0.25,
        0.25,
        0.25,
        0,
    ]
    assert math.isnan(survival(counts[:0], 2)[1].value)
