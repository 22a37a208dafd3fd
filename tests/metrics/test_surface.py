"""Planes through an image: orthogonal directions, and losses that are known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from known_surfaces import SHAPE, Shape, TwoClass, bent, grey, linear, weight, zeros
from torch import Tensor

from scotoma.attacks.core.losses import margin
from scotoma.metrics.surface import CLOSE, loss_surface, plane
from scotoma.threat import Threat
from scotoma.utils.random import Randomness

LINF, L2 = Threat("linf", 0.1), Threat("l2", 0.5)
THREATS = pytest.mark.parametrize("threat", [LINF, L2], ids=str)


def normal(n: int, shape: Shape, seed: int, zeroed: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn((n, *shape), generator=generator)
    return values * (torch.rand(values.shape, generator=generator) >= zeroed)


def products(first: Tensor, second: Tensor) -> Tensor:
    return (first.double() * second.double()).flatten(1).sum(1)


@THREATS
@pytest.mark.parametrize("zeroed", [0.0, 0.4])
@pytest.mark.parametrize("shape", [SHAPE, (3, 5, 5)])
def test_directions_are_orthogonal_and_of_unit_size(threat: Threat, zeroed: float, shape: Shape):
    gradient = normal(20, shape, 0, zeroed)
    for other in (
        normal(20, shape, 1),
        normal(20, shape, 1, 0.5),
        torch.zeros(20, *shape),
        gradient,
        -gradient,
    ):
        first, second = plane(gradient, other, threat, Randomness.default(gradient))
        assert first.shape == second.shape == gradient.shape
        assert products(first, second).abs().max() < 1e-6
        if threat is LINF:
            assert torch.equal(first, gradient.sign())
            odd = (gradient != 0).flatten(1).sum(1) % 2
            assert torch.equal((second == 0).flatten(1).sum(1), odd)
            assert set(second.unique().tolist()) <= {-1, 0, 1}
        else:
            assert torch.allclose(products(first, first), torch.ones(20).double(), atol=1e-5)
            assert torch.allclose(products(second, second), torch.ones(20).double(), atol=1e-5)


def test_signs_are_the_best_of_all_that_are_orthogonal():
    """Six values: each of the 64 vectors of signs is tried."""
    gradient, other = normal(50, (1, 2, 3), 0), normal(50, (1, 2, 3), 1)
    _, second = plane(gradient, other, LINF, Randomness.default(gradient))
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 6)
    gain = (other.flatten(1) @ signs.T).masked_fill(
        gradient.sign().flatten(1) @ signs.T != 0, -torch.inf
    )
    assert torch.allclose(products(second, other), gain.amax(1).double())


def test_in_l2_it_is_what_is_left_of_the_other_gradient():
    gradient, other = normal(9, SHAPE, 0), normal(9, SHAPE, 1)
    first, second = plane(gradient, other, L2, Randomness.default(gradient))
    back = products(other, first)[:, None] * first.flatten(1) + products(other, second)[
        :, None
    ] * second.flatten(1)
    assert torch.allclose(back, other.flatten(1).double(), atol=1e-5)


@THREATS
def test_without_another_gradient_it_is_random_and_belongs_to_the_image(threat: Threat):
    gradient = normal(30, SHAPE, 0)
    planes = [
        plane(gradient, torch.zeros_like(gradient), threat, Randomness(seed, torch.arange(30)))[1]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(planes[0], planes[1])
    assert products(planes[0], planes[2]).abs().mean() < 0.3 * products(planes[0], planes[0]).mean()
    assert (planes[0].mean((1, 2, 3)).abs() < 0.5).all()
    keep = torch.tensor([5, 2])
    part = plane(gradient[keep], torch.zeros(2, *SHAPE), threat, Randomness(0, keep))[1]
    assert torch.allclose(part, planes[0][keep])


@THREATS
def test_one_value_leaves_no_second_direction(threat: Threat):
    first, second = plane(
        torch.full((1, 1, 1, 1), 3.0),
        torch.ones(1, 1, 1, 1),
        threat,
        Randomness.default(torch.ones(1)),
    )
    assert first.flatten().tolist() == pytest.approx([1])
    assert second.flatten().tolist() == [0]


@THREATS
@pytest.mark.parametrize("shape", [SHAPE, (3, 5, 4)])
def test_the_loss_of_a_linear_model_rises_along_its_gradient_alone(threat: Threat, shape: Shape):
    w = weight(shape)
    if threat is LINF:
        w = w.sign()  # so that what is orthogonal to the signs is orthogonal to the gradient
    images = grey(4, shape)
    surface = loss_surface(linear(w), images, zeros(4), threat, steps=5)
    assert surface.at.tolist() == pytest.approx([threat.eps * step / 5 for step in range(-5, 6)])
    gain = surface.at * (w.abs().sum() if threat is LINF else w.norm())
    height = (images.flatten(1) - 0.5) @ w - 1
    expected = F.softplus(height[:, None, None] + gain[:, None]).expand(-1, -1, 11)
    assert torch.allclose(surface.losses, expected, atol=1e-4)


@THREATS
def test_the_plane_of_two_linear_models(threat: Threat):
    """The gradient of the other model spans the second axis; the margin is linear in both."""
    w, v = weight(seed=0), weight(seed=1).flip(0)
    images = grey(3)
    surface = loss_surface(
        linear(w), images, zeros(3), threat, reach=0.02, steps=3, source=linear(v), loss=margin
    )
    first, second = plane(
        w.view(1, *SHAPE), v.view(1, *SHAPE), threat, Randomness.default(images[:1])
    )
    slopes = [float(products(w.view(1, *SHAPE), direction)) for direction in (first, second)]
    height = (images.flatten(1) - 0.5) @ w - 1
    expected = height[:, None, None] + surface.at[:, None] * slopes[0] + surface.at * slopes[1]
    assert torch.allclose(surface.losses, expected, atol=1e-4)
    assert float(products(v.view(1, *SHAPE), second)) > 0


def test_the_middle_is_the_image_and_close_views_lie_in_wide_ones():
    model, images = bent(), grey(3)
    labels = model(images).argmax(1)
    wide = loss_surface(model, images, labels, LINF, steps=16)
    close = loss_surface(model, images, labels, LINF, reach=CLOSE * LINF.eps, steps=2)
    clean = F.cross_entropy(model(images), labels, reduction="none").detach()
    assert torch.allclose(wide.losses[:, 16, 16], clean, atol=1e-6)
    assert torch.allclose(close.losses[:, ::2, ::2], wide.losses[:, 15:18, 15:18], atol=1e-5)
    assert wide.at[16] == 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_images_at_the_edge_are_not_clipped():
    """So that black pixels do not fold the plane."""
    w = weight()
    surface = loss_surface(linear(w), torch.zeros(1, *SHAPE), zeros(1), LINF, steps=2, loss=margin)
    slopes = surface.losses[0, 1:, 2] - surface.losses[0, :-1, 2]
    assert torch.allclose(slopes, (0.05 * w.abs().sum()).expand(4), atol=1e-4)


@pytest.mark.parametrize("kill", [torch.sign, Tensor.detach], ids=["sign", "detach"])
def test_without_a_gradient_the_first_axis_is_level(kill):
    w = weight()
    surface = loss_surface(
        TwoClass(lambda x: kill((x - 0.5) @ w)),
        torch.full((2, *SHAPE), 0.5),
        zeros(2),
        LINF,
        steps=3,
    )
    assert torch.allclose(
        surface.losses, surface.losses[:, :1].expand_as(surface.losses), atol=1e-5
    )
    assert surface.losses.std() > 0.01


@THREATS
def test_any_split_gives_the_same(monkeypatch, threat: Threat):
    model, images = bent(), grey(5)
    whole = loss_surface(model, images, zeros(5), threat, steps=3, source=bent(frequency=20))
    for batch in (1, 2, 17):
        monkeypatch.setattr(
            "scotoma.metrics.surface.batch_size", lambda device, pixels, batch=batch: batch
        )
        split = loss_surface(model, images, zeros(5), threat, steps=3, source=bent(frequency=20))
        assert torch.allclose(split.losses, whole.losses, atol=1e-4)


def test_no_images():
    assert loss_surface(bent(), grey(0), zeros(0), LINF, steps=2).losses.shape == (0, 5, 5)
