"""DDN against the closed form on linear models, its own promises, and another implementation."""

from __future__ import annotations

import pytest
import torch
from decisions import l2_optimum, problem
from minimum_norm import open_problem
from torch import nn
from trained import correct_digits

from scotoma.attacks import ddn
from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.ddn import DDN, stretch


@pytest.mark.parametrize("shape", [(1, 10, 10), (3, 6, 6)])
def test_reaches_the_optimum_of_linear_models_inside_the_box(shape: tuple[int, int, int]):
    model, images, labels = problem(40, shape)
    adversarial = DDN("l2")(model, images, labels)
    ratio = size(adversarial - images, "l2") / l2_optimum(model, images, labels)
    assert fooled(model(adversarial), labels).all()
    assert ratio.min() > 1 - 1e-4
    assert ratio.mean() < 1.005


def test_reaches_the_optimum_where_the_box_is_far():
    model, images, labels = open_problem(20, classes=5)
    ratio = size(DDN("l2")(model, images, labels) - images, "l2") / l2_optimum(
        model, images, labels
    )
    assert ratio.min() > 1 - 1e-4
    assert ratio.mean() < 1.01


def test_every_step_is_one_pass_each_way():
    model, images, labels = problem(12)
    counted = Counted(model, len(images), images.device)
    DDN("l2", steps=7)(counted, images, labels)
    assert counted.forwards.tolist() == [9] * len(images)
    assert counted.backwards.tolist() == [7] * len(images)


def cut(delta: torch.Tensor, clean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (delta * scale[:, None, None, None]).maximum(-clean).minimum(1 - clean)


def test_stretches_as_bisection_does():
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(200, 3, 4, 4, generator=generator, dtype=torch.float64)
    clean = torch.where(torch.rand(clean.shape, generator=generator) < 0.5, clean.round(), clean)
    delta = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    most = size(cut(delta, clean, torch.full((200,), 1e9, dtype=torch.float64)), "l2")
    length = most * torch.rand(200, generator=generator, dtype=torch.float64) * 0.8
    low, high = torch.zeros(200, dtype=torch.float64), torch.full((200,), 1e4, dtype=torch.float64)
    for _ in range(80):
        middle = (low + high) / 2
        short = size(cut(delta, clean, middle), "l2") < length
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    expected, stretched = cut(delta, clean, high), stretch(delta, clean, length)
    error = size(stretched - expected, "l2") / length
    assert error.mean() < 0.01
    assert error.quantile(0.9) < 0.02
    assert (size(stretched, "l2") <= length * (1 + 1e-9)).all()
    assert (clean + stretched).min() >= 0
    assert (clean + stretched).max() <= 1


def test_stretches_exactly_where_nothing_is_cut_off_and_not_beyond_the_box():
    clean = torch.full((3, 1, 2, 2), 0.5)
    delta = torch.tensor([3.0, 0, -4, 0]).view(1, 1, 2, 2).repeat(3, 1, 1, 1)
    delta[2] = 0
    stretched = stretch(delta, clean, torch.tensor([0.25, 100, 1]))
    assert stretched.flatten(1).tolist() == [
        pytest.approx([0.15, 0, -0.2, 0]),
        [0.5, 0, -0.5, 0],
        [0, 0, 0, 0],
    ]


def test_as_near_as_another_implementation():
    foolbox = pytest.importorskip("foolbox")
    model, images, labels = correct_digits(100)
    peer = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    _, theirs, won = foolbox.attacks.DDNAttack(steps=100)(peer, images, labels, epsilons=None)
    near, far = size(DDN("l2")(model, images, labels) - images, "l2"), size(theirs - images, "l2")
    far[~won] = torch.inf
    assert near.min() > 0
    assert near.median() < far.median()
    assert near.mean() < far[won].mean()


def test_closes_in_on_an_image_that_nothing_around_the_box_fools(monkeypatch):
    class Shell(nn.Module):
        """Class 1 between 0.25 and 0.35 from the middle of the box."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            height = 0.05 - ((images - 0.5).flatten(1).norm(dim=1) - 0.3).abs()
            return torch.stack([torch.zeros_like(height), height], 1)

    images = 0.5 + 1e-3 * torch.randn(20, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(20, dtype=torch.int64)
    adversarial = DDN("l2")(Shell(), images, labels)
    assert fooled(Shell()(adversarial), labels).all()
    assert (adversarial - 0.5).flatten(1).norm(dim=1).max() < 0.3
    monkeypatch.setattr(ddn, "PATIENCE", 1000)
    assert torch.equal(DDN("l2")(Shell(), images, labels), images)
