"""Threats in every norm: what is inside, and which way is steepest."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from scotoma.threat import TOLERANCE, Threat
from scotoma.utils.errors import InputError

SHAPE = (6, 3, 4, 4)
NORMS = ["linf", "l2", "l1", "l0"]


def size(change: Tensor, norm: str) -> Tensor:
    if norm == "l0":
        return (change.abs().amax(1) > 0).flatten(1).sum(1).float()
    return change.flatten(1).norm(p={"linf": math.inf, "l2": 2, "l1": 1}[norm], dim=1)


def pair(reach: float = 0.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    originals = torch.rand(SHAPE, generator=generator)
    return originals + reach * (2 * torch.rand(SHAPE, generator=generator) - 1), originals


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.5), ("l1", 1.5), ("l0", 5)])
def test_projection_ends_inside_the_ball_and_the_range(norm: str, eps: float):
    images, originals = pair()
    given = images.clone()
    inside = Threat(norm, eps).project(images, originals)
    assert size(inside - originals, norm).max() <= eps + 1e-5
    assert inside.min() >= 0
    assert inside.max() <= 1
    assert torch.equal(images, given), "the images given are not changed"
    assert size(inside - originals, norm).min() > 0.5 * eps


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_inside_stays(norm: str):
    images, originals = pair(0.01)
    images.clamp_(0, 1)
    eps = {"linf": 0.02, "l2": 1.0, "l1": 5.0, "l0": 16}[norm]
    assert torch.allclose(Threat(norm, eps).project(images, originals), images, atol=TOLERANCE)


def test_l1_projection_is_the_nearest_point():
    """Against a solver, far from black and white, so that the ball alone matters."""
    generator = torch.Generator().manual_seed(1)
    originals = torch.full((1, 1, 2, 3), 0.5)
    images = originals + 0.4 * (2 * torch.rand(originals.shape, generator=generator) - 1)
    found = (Threat("l1", 0.4).project(images, originals) - originals).flatten().double().numpy()
    wanted = (images - originals).flatten().double().numpy()
    # positive and negative parts apart make the problem smooth
    solved = minimize(
        lambda parts: ((parts[:6] - parts[6:] - wanted) ** 2).sum(),
        x0=[0.01] * 12,
        bounds=[(0, 1)] * 12,
        constraints={"type": "ineq", "fun": lambda parts: 0.4 - parts.sum()},
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    assert solved.success
    assert abs(found - (solved.x[:6] - solved.x[6:])).max() < 1e-4


def test_l0_keeps_the_pixels_with_the_largest_change():
    originals = torch.full((1, 3, 1, 3), 0.5)
    images = originals.clone()
    images[0, 0, 0, 0] += 0.3
    images[0, :, 0, 1] += 0.2
    images[0, 2, 0, 2] -= 0.4
    kept = Threat("l0", 2).project(images, originals)
    assert torch.equal((kept != originals).any(1).flatten(), torch.tensor([True, False, True]))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_direction_of_the_same_size_is_steeper(norm: str):
    generator = torch.Generator().manual_seed(2)
    gradient = torch.randn(SHAPE, generator=generator)
    gradient[0] = 0
    gradient[1] *= 1e-30  # whose squares are 0 in float32
    threat = Threat(norm, 0.25)
    steepest = threat.steepest(gradient)
    assert torch.equal(steepest[0], torch.zeros(SHAPE[1:]))
    assert torch.allclose(size(steepest[1:], norm), torch.tensor(0.25))
    others = torch.randn((200, *SHAPE), generator=generator)
    for other in others:
        same = other * (0.25 / size(other, norm))[:, None, None, None]
        assert ((gradient * (steepest - same)).flatten(1).sum(1) >= -1e-6).all()


@pytest.mark.parametrize("threat", [Threat("l1", 2.0), Threat("l0", 3)], ids=str)
def test_other_norms_have_no_steepest_step(threat: Threat):
    with pytest.raises(InputError, match="L-inf and L2 only"):
        threat.steepest(torch.ones(SHAPE))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("l3:1", "unknown norm 'l3'"),
        ("linf:1.5", "must lie in (0, 1]"),
        ("l2:0", "want a number above 0"),
        ("l2:inf", "want a number above 0"),
        ("l2:nan", "want a number above 0"),
        ("l0:2.5", "whole number"),
    ],
)
def test_what_is_no_threat(text: str, told: str):
    with pytest.raises(InputError) as error:
        Threat.parse(text)
    assert told in str(error.value)


def test_a_threat_prints_as_it_is_written():
    for text in ("linf:0.3", "linf:8/255", "l2:1.5", "l2:36/255", "l0:12", "l1:10"):
        assert str(Threat.parse(text)) == text
