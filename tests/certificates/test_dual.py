"""The dual bound against the paper's formula, linear programs, closed forms and attacks."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import textbook
import torch
import torch.nn.functional as F
from torch import nn

from once import barely_tested, once
from scotoma.attacks.apgd import APGDT
from scotoma.attacks.min_linf import MinLinf
from scotoma.attacks.pgd import PGD
from scotoma.attacks.square import Square
from scotoma.certificates import dual
from scotoma.certificates.dual import Strip, bound, certified
from scotoma.certificates.layers import read_network
from scotoma.models.loading import load_model
from scotoma.models.mnist import wong_large, wong_small
from scotoma.models.resnet import Standardise
from scotoma.threat import TOLERANCE, Threat
from scotoma.training.loop import Schedule, train


def dense(*sizes: int) -> nn.Sequential:
    """Dense layers with ReLUs between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def seeded(make, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return make().requires_grad_(False)


NETWORKS = {
    "dense": (lambda: dense(12, 9, 8, 4), (1, 3, 4)),
    "wong-small": (lambda: wong_small((1, 8, 8), 5), (1, 8, 8)),
    "odd": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0)),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * 3 * 3, 6),
            nn.ReLU(),
            nn.Linear(6, 3),
        ),
        (2, 9, 7),
    ),
    "left-over": (  # rows and columns that no window reaches
        lambda: nn.Sequential(
            nn.Conv2d(5, 6, 2, stride=3),
            nn.ReLU(),
            nn.Conv2d(6, 7, 2, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(7 * 2 * 2, 4),
        ),
        (5, 10, 9),
    ),
    "three": (
        lambda: nn.Sequential(
            Standardise(),
            nn.Conv2d(1, 5, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(5, 5, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(5, 6, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3),
            nn.ReLU(),
            nn.Conv2d(4, 3, 1),
        ),
        (1, 6, 6),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("block", [1, 2**20])
def test_it_is_the_formula_of_the_paper(monkeypatch, name, block):
    monkeypatch.setattr(dual, "BLOCK", block)
    make, shape = NETWORKS[name]
    model = seeded(make)
    network = read_network(model, shape)
    images = torch.rand(3, *shape, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 2, 1])
    for eps in (0.02, 0.3):
        centre, radius = bound(network, images, labels, eps)
        for row, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            expected = textbook.margins(seeded(make), image, label, eps)
            assert np.allclose((centre - radius)[row].numpy(), expected, atol=1e-5, rtol=1e-4)
        assert not (centre - radius).gather(1, labels[:, None]).any()


def test_it_is_exact_for_one_layer(digits, linear):
    images, labels = digits.test.images(torch.arange(50)), digits.test.labels[:50]
    layer = linear[1]
    eps = 0.15
    centre, radius = bound(read_network(linear, digits.shape), images, labels, eps)
    for rival in range(10):
        weight = layer.weight[labels] - layer.weight[rival]
        x = images.flatten(1)
        worst = torch.where(weight > 0, (x - eps).clamp_min(0), (x + eps).clamp_max(1))
        logits = layer(worst)
        least = logits.gather(1, labels[:, None])[:, 0] - logits[:, rival]
        assert torch.allclose((centre - radius)[:, rival], least, atol=1e-4)
    proven = certified(read_network(linear, digits.shape), images, labels, eps)
    assert torch.equal(proven, ((centre - radius).scatter(1, labels[:, None], 1) > 1e-3).all(1))
    assert 0 < proven.sum() < 50


@pytest.mark.parametrize("seed", range(4))
def test_linear_program_and_truth_lie_above(seed):
    model = seeded(lambda: dense(5, 12, 8, 3), seed)
    generator = torch.Generator().manual_seed(seed)
    image, eps = torch.rand(1, 1, 1, 5, generator=generator), 0.25
    centre, radius = bound(read_network(model, (1, 1, 5)), image, torch.tensor([0]), eps)
    least = (centre - radius)[0].numpy()
    inside = (image + eps * (2 * torch.rand(200_000, 1, 1, 5, generator=generator) - 1)).clamp(0, 1)
    corners = (
        image + eps * torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 5).view(-1, 1, 1, 5)
    ).clamp(0, 1)
    logits = model(torch.cat([inside, corners]))
    reached = (logits[:, :1] - logits).amin(0).numpy()
    x = image.double().flatten().numpy()
    low, high = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
    stages = textbook.matrices(model, (1, 1, 5))
    bounds = textbook.layer_bounds(stages, low, high)
    for rival in (1, 2):
        c = np.eye(3)[0] - np.eye(3)[rival]
        program = textbook.relaxed(stages, bounds, low, high, c)
        assert least[rival] <= program + 1e-5
        assert program <= reached[rival] + 1e-5
        assert reached[rival] - least[rival] < 2, "the bound says something"


def test_the_strip_holds_the_relu():
    low, high = (
        torch.tensor([-1.0, -2.0, 0.5, -0.5, 0.0, -1.0]),
        torch.tensor([1.0, 0.5, 2.0, -0.1, 0.0, 0.0]),
    )
    strip = Strip.between(low, high)
    for share in torch.linspace(0, 1, 21):
        z = low + share * (high - low)
        least = strip.slope * z
        assert (least <= z.relu() + 1e-6).all()
        assert (z.relu() <= least + 2 * strip.error + 1e-6).all()
    assert strip.slope.tolist() == pytest.approx([0.5, 0.2, 1, 0, 1, 0])
    assert strip.error.tolist() == pytest.approx([0.25, 0.2, 0, 0, 0, 0])


def test_many_projections_come_near():
    make, shape = NETWORKS["odd"]
    network = read_network(seeded(make), shape)
    images = torch.rand(4, *shape, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2, 0])
    exact = bound(network, images, labels, 0.1)
    near, far = (
        max(
            ((estimate[1] - exact[1]).abs().max() / exact[1].max()).item()
            for estimate in [
                bound(network, images, labels, 0.1, projections, torch.Generator().manual_seed(s))
                for s in range(3)
            ]
        )
        for projections in (2001, 5)
    )
    assert near < 0.03 < far
    repeated = [
        bound(network, images, labels, 0.1, 5, torch.Generator().manual_seed(0)) for _ in range(2)
    ]
    assert torch.equal(repeated[0][1], repeated[1][1])


@pytest.mark.parametrize("projections", [None, 7])
def test_the_gradient_is_that_of_finite_differences(projections):
    make, shape = NETWORKS["odd"]
    model = seeded(make).double().requires_grad_(True)
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1)).double()
    labels = torch.tensor([0, 1])

    def loss() -> torch.Tensor:
        centre, radius = bound(
            read_network(model, shape),
            images,
            labels,
            0.1,
            projections,
            torch.Generator().manual_seed(0),
        )
        return F.cross_entropy(radius - centre, labels)

    loss().backward()
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        direction = torch.randn(parameter.shape, generator=generator).double()
        with torch.no_grad():
            parameter += 1e-6 * direction
            up = loss()
            parameter -= 2e-6 * direction
            down = loss()
            parameter += 1e-6 * direction
        assert parameter.grad is not None
        assert ((up - down) / 2e-6).item() == pytest.approx(
            (parameter.grad * direction).sum().item(), rel=1e-3, abs=1e-7
        )


@pytest.fixture(scope="module")
def provable(digits) -> nn.Module:
    """wong-small after a few seconds of provable training on the digits."""

    def make(path: Path) -> None:
        schedule = Schedule(epochs=3, batch=64, peak=5e-3)
        few = barely_tested(digits)
        train("wong", few, "wong-small", Threat("linf", 0.1), path, schedule=schedule)

    return load_model(str(once("digits-wong.safetensors", make))).module


def test_no_attack_succeeds_inside_a_certified_ball(digits, provable):
    n = 60
    images, labels = digits.test.images(torch.arange(n)), digits.test.labels[:n]
    right = provable(images).argmax(1) == labels
    search = MinLinf("linf", steps=40, restarts=0)
    nearest = search(provable, images[right], labels[right])
    for eps in (0.05, 0.1):
        proven = certified(read_network(provable, digits.shape), images, labels, eps)
        assert 0.3 < proven.float().mean() < 0.99
        assert right[proven].all()
        threat = Threat("linf", eps)
        attacks = [
            PGD(threat, steps=20),
            APGDT(threat, steps=10),
            Square(threat, queries=60),
        ]
        broken = torch.zeros(n, dtype=torch.bool)
        for adversarial in (
            nearest,
            *(attack(provable, images[right], labels[right]) for attack in attacks),
        ):
            wrong = provable(adversarial).argmax(1) != labels[right]
            inside = (adversarial - images[right]).abs().flatten(1).amax(1) <= eps + TOLERANCE
            broken[right.nonzero().squeeze(1)] |= wrong & inside
        assert broken.any(), "the attacks do succeed where nothing is certified"
        assert not (broken & proven).any()


def test_the_bound_at_a_vanishing_ball_is_the_margin():
    model = seeded(lambda: wong_large((1, 8, 8), 10))
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = model(images).argmax(1)
    centre, radius = bound(read_network(model, (1, 8, 8)), images, labels, 1e-7)
    logits = model(images)
    assert torch.allclose(centre - radius, logits.gather(1, labels[:, None]) - logits, atol=1e-4)


def test_a_wrong_image_is_never_certified(digits, provable):
    images = digits.test.images(torch.arange(100))
    labels = (provable(images).argmax(1) + 1) % 10
    assert not certified(read_network(provable, digits.shape), images, labels, 1e-5).any()
