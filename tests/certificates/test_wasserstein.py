"""The inner problem of distributionally robust training, where its answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from scotoma.certificates.wasserstein import curvature, is_smooth, losses, transport
from scotoma.models import ARCHITECTURES
from scotoma.models.mnist import wrm


class Bowl(nn.Module):
    """Two classes whose loss is smooth in one direction alone: logits (0, w x)."""

    def __init__(self, slope: float):
        super().__init__()
        self.slope = slope

    def forward(self, images: Tensor) -> Tensor:
        along = self.slope * images.flatten(1)[:, 0]
        return torch.stack([torch.zeros_like(along), along], 1)


def test_the_inner_maximum_of_a_linear_model_is_where_its_gradient_vanishes():
    """loss = softplus(w x) for label 0: at the maximum 2 gamma (x' - x) = w sigmoid(w x')."""
    slope, gamma = 1.5, 0.6
    assert slope**2 / 4 < 2 * gamma, "concave"
    images = torch.linspace(-3, 3, 13).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    x = transport(Bowl(slope), images, torch.zeros(13, dtype=torch.long), gamma, steps=200)
    moved = (x - images).flatten(1)
    assert not moved[:, 1:].any()
    expected = images[:, 0, 0, 0].clone()
    for _ in range(200):
        expected = images[:, 0, 0, 0] + slope * torch.sigmoid(slope * expected) / (2 * gamma)
    assert torch.allclose(x[:, 0, 0, 0], expected, atol=1e-4)


def test_the_steps_are_those_of_the_authors():
    """x + grad of e loss, then x + (grad of e loss - (x' - x)) / sqrt(t + 2)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 3))
    images, labels = torch.rand(4, 1, 3, 3), torch.tensor([0, 1, 2, 0])
    e = 1.3

    def gradient(x: Tensor) -> Tensor:
        leaf = x.clone().requires_grad_()
        losses(model(leaf), labels, 0.1).sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    x = images + e * gradient(images)
    for t in range(3):
        x = x + (e * gradient(x) - (x - images)) / math.sqrt(t + 2)
    assert torch.allclose(transport(model, images, labels, 0.5 / e, 3, 0.1), x, atol=1e-6)


def test_a_higher_price_moves_less_and_no_move_is_worth_more():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 8), nn.ELU(), nn.Linear(8, 3))
    images, labels = torch.rand(30, 1, 3, 3), torch.arange(30) % 3
    distances = []
    for gamma in (0.5, 1.0, 4.0):
        x = transport(model, images, labels, gamma, steps=100)
        phi = losses(model(x), labels) - gamma * (x - images).flatten(1).square().sum(1)
        for _ in range(200):
            other = images + 0.5 * torch.randn(images.shape) * torch.rand(30, 1, 1, 1)
            assert (
                losses(model(other), labels) - gamma * (other - images).flatten(1).square().sum(1)
                <= phi + 1e-4
            ).all()
        distances.append((x - images).flatten(1).square().sum(1).mean().item())
    assert distances[0] > distances[1] > distances[2] > 0


def test_targets_leave_equal_parts_for_the_wrong_classes():
    logits = torch.randn(5, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 9, 1, 1])
    target = torch.full((5, 10), 0.1 / 9).scatter(1, labels[:, None], 0.9)
    assert torch.allclose(
        losses(logits, labels, 0.1), -(target * logits.log_softmax(1)).sum(1), atol=1e-5
    )
    assert torch.allclose(
        losses(logits, labels), -logits.log_softmax(1).gather(1, labels[:, None])[:, 0], atol=1e-5
    )


def test_curvature_is_the_largest_eigenvalue():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 8), nn.ELU(), nn.Linear(8, 3))
    images, labels = torch.rand(6, 1, 3, 3), torch.arange(6) % 3
    largest = curvature(
        model, images, labels, steps=300, generator=torch.Generator().manual_seed(1)
    )
    for image, label, value in zip(images, labels, largest, strict=True):
        hessian = torch.autograd.functional.hessian(
            lambda x, label=label: losses(model(x.view(1, 1, 3, 3)), label[None]).sum(),
            image.flatten(),
        )
        spectrum = torch.linalg.eigvalsh(hessian)  # type: ignore[arg-type]
        assert value <= spectrum[-1] + 1e-4
        if spectrum[-1] > 1.2 * spectrum[0].abs():
            assert value.item() == pytest.approx(spectrum[-1].item(), rel=0.02)
    assert largest.max() > 0


def test_which_networks_are_smooth():
    assert is_smooth(wrm((1, 28, 28), 10))
    for name in ("small-cnn", "wong-small", "resnet9"):
        assert not is_smooth(ARCHITECTURES[name]((1, 28, 28), 10))
    assert not is_smooth(Bowl(1.0)), "who knows what it computes"


def test_a_smooth_layer_with_a_kink_of_its_own_is_not_smooth():
    class Bent(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input).relu()

    assert is_smooth(nn.Sequential(nn.Linear(2, 2)))
    assert not is_smooth(nn.Sequential(Bent(2, 2)))
