"""Each attribution method beside its definition and beside Captum's own class."""

from __future__ import annotations

from itertools import cycle

import captum.attr
import numpy as np
import pytest
import torch
from bent import SHAPE, batch, flat, network
from torch import Tensor, nn

from scotoma.attribution.gradient_shap import GradientShap
from scotoma.attribution.input_gradient import InputXGradient
from scotoma.attribution.integrated_gradients import IntegratedGradients
from scotoma.attribution.smoothgrad import SmoothGrad
from scotoma.utils.random import Randomness


def logit(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return model(images).gather(1, labels[:, None]).squeeze(1)


def gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    leaf = images.clone().requires_grad_()
    return torch.autograd.grad(logit(model, leaf, labels).sum(), leaf)[0]


@pytest.mark.parametrize("kind", ["black", "gray", "white", "mean"])
def test_integrated_gradients_are_complete(kind: str):
    model, (images, labels) = network(), batch(8)
    method = IntegratedGradients(kind)
    gap = logit(model, images, labels) - logit(model, method.origin(images), labels)
    torch.testing.assert_close(
        method(model, images, labels).sum((1, 2, 3)), gap, atol=1e-5, rtol=1e-4
    )
    assert gap.abs().min() > 1e-4


def test_integrated_gradients_are_the_integral():
    """Beside 2,000 points of the midpoint rule, in double precision."""
    model, (images, labels) = network(), batch(2)
    expected, exact = torch.zeros_like(images, dtype=torch.float64), network().double()
    for alpha in (torch.arange(2000) + 0.5) / 2000:
        expected += gradient(exact, alpha * images.double(), labels) * images / 2000
    torch.testing.assert_close(
        IntegratedGradients()(model, images, labels).double(), expected, atol=1e-6, rtol=1e-4
    )


def test_a_saturated_logit_still_has_integrated_gradients():
    """min(mean, 0.2) is flat at the image: its gradient is 0, the integral is not."""

    class Capped(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            value = images.flatten(1).mean(1).clamp_max(0.2)
            return torch.stack([value, -value], 1)

    images, labels = torch.full((1, *SHAPE), 0.8), torch.zeros(1, dtype=torch.int64)
    assert not InputXGradient()(Capped(), images, labels).any()
    assert float(IntegratedGradients()(Capped(), images, labels).sum()) == pytest.approx(
        0.2, abs=0.01
    )


def test_input_times_gradient_is_captums():
    model, (images, labels) = network(), batch(6)
    maps = InputXGradient()(model, images, labels)
    assert torch.equal(
        maps,
        captum.attr.InputXGradient(model).attribute(images.clone().requires_grad_(), target=labels),
    )
    torch.testing.assert_close(maps, images * gradient(model, images, labels))


def test_gradient_shap_of_a_linear_model():
    """w (x' - b): half the samples start from the baseline, the others see only the noise."""
    (model, weight), (images, labels) = flat(), batch(5)
    whole = weight[labels] * images
    maps = GradientShap(samples=2000)(model, images, labels)
    error = (maps - whole / 2).flatten(1).norm(dim=1) / whole.flatten(1).norm(dim=1)
    assert error.max() < 4 * 0.5 / 2000**0.5
    assert error.max() > 0
    silent = GradientShap(samples=2, noise=0)(model, images, labels) / whole
    assert all(
        min(abs(share - want) for want in (0, 0.5, 1)) < 1e-4
        for share in silent.flatten(1).mean(1).tolist()
    )


def test_gradient_shap_is_captums_with_the_same_draws(monkeypatch):
    """For one image; Captum's draws of noise, baseline and point are replaced by ours."""
    model, (images, labels) = network(), batch(1)
    random, samples = Randomness.default(images), 50
    noise, starts, alphas = [], [], []
    for _ in range(samples):
        noise.append(0.01 * random.normal(images))
        starts.append(0 if float(random.uniform(images[:, :1, :1, :1])) < 0.5 else 1)
        alphas.append(float(random.uniform(images[:, :1, :1, :1])))
    monkeypatch.setattr(torch, "normal", lambda mean, deviation: torch.cat(noise))
    monkeypatch.setattr(np.random, "choice", lambda pool, size: np.array(starts))
    monkeypatch.setattr(np.random, "uniform", lambda low, high, size: np.array(alphas))
    pool = torch.cat([torch.zeros_like(images), images])
    theirs = captum.attr.GradientShap(model).attribute(
        images, pool, n_samples=samples, stdevs=0.01, target=labels
    )
    torch.testing.assert_close(GradientShap()(model, images, labels), theirs, atol=1e-6, rtol=1e-4)
    assert 10 < sum(starts) < 40


def test_smoothgrad_is_captums_with_the_same_noise(monkeypatch):
    """NoiseTunnel of integrated gradients, `smoothgrad_sq`, with our noise for its own."""
    model, (images, labels) = network(), batch(3)
    random = Randomness.default(images)
    draws = cycle([0.2 * random.normal(images) for _ in range(20)])
    monkeypatch.setattr(torch, "normal", lambda mean, deviation: next(draws))
    tunnel = captum.attr.NoiseTunnel(captum.attr.IntegratedGradients(model))
    theirs = tunnel.attribute(
        images,
        nt_type="smoothgrad_sq",
        nt_samples=20,
        nt_samples_batch_size=1,
        stdevs=0.2,
        target=labels,
        n_steps=50,
    )
    assert isinstance(theirs, Tensor)
    maps = SmoothGrad()(model, images, labels)
    torch.testing.assert_close(maps, theirs, atol=1e-6, rtol=1e-4)
    assert maps.min() >= 0


def test_smoothgrad_of_a_linear_model_has_a_known_mean():
    """The mean of (w (x + t e))^2 is w^2 (x^2 + t^2)."""
    (model, weight), (images, labels) = flat(), batch(4)
    maps = SmoothGrad(samples=500, steps=1, noise=0.3)(model, images, labels)
    expected = weight[labels].square() * (images.square() + 0.09)
    assert float((maps.sum((1, 2, 3)) / expected.sum((1, 2, 3)) - 1).abs().max()) < 0.05
