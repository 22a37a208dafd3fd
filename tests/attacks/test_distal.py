"""Distal images: known optima of linear models, flat posteriors, and models without gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from decisions import Constant, Exact, Quantised
from torch import Tensor, nn
from trained import digits_model

from scotoma.attacks.bpda import BPDA
from scotoma.attacks.core.gradient import with_gradient
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.distal import Distal, Posterior
from scotoma.attacks.estimated import Estimated
from scotoma.models.layers import Binarise
from scotoma.models.synthesis import AnalysisBySynthesis
from scotoma.models.vae import ClassVAEs
from scotoma.utils.errors import InputError

SHAPE = (1, 8, 8)
TARGETS = torch.arange(10)
SHARP = Posterior(8.0)
"""Confidence that the robustly trained digits network reaches for every class."""


def noise(n: int, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


def confidence(
    model: nn.Module, images: Tensor, targets: Tensor, posterior: Posterior | None = None
) -> Tensor:
    with torch.no_grad():
        return (posterior or Posterior())(model(images)).gather(1, targets[:, None]).squeeze(1)


class Goals(nn.Module):
    """Logits are minus the squared L2 distance to a flat image, one grey level for each class."""

    def __init__(self, *levels: float):
        super().__init__()
        self.register_buffer("levels", torch.tensor(levels))
        self.levels: Tensor

    def forward(self, images: Tensor) -> Tensor:
        return -(images.flatten(1)[:, None] - self.levels[:, None]).square().sum(2)


class Narrow(nn.Module):
    """Linear in float32, and it is sure of nothing: a tenth of the logits."""

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        self.model = Exact(shape, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images) / 10


def test_reaches_every_class_of_a_network_inside_the_box():
    model, start = digits_model(), noise(10)
    before = start.clone()
    images = Distal(posterior=SHARP)(model, start, TARGETS)
    assert torch.equal(start, before)
    assert images.min() >= 0
    assert images.max() <= 1
    assert (confidence(model, start, TARGETS, SHARP) < 0.9).sum() >= 8
    assert (confidence(model, images, TARGETS, SHARP) >= 0.9).all()
    assert (images[:, None] - images).flatten(2).norm(dim=2).add(torch.eye(10)).min() > 0.5, (
        "ten different images"
    )


@pytest.mark.parametrize("shape", [SHAPE, (3, 5, 4)])
def test_two_classes_of_a_linear_model_are_surest_in_a_corner(shape: tuple[int, int, int]):
    """No image in the box is surer than this; few short steps never reach it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 2))
    slope = model[1].weight[1] - model[1].weight[0]  # type: ignore[union-attr, operator]
    corner = (slope > 0).float().view(1, *shape)
    best = float(confidence(model, corner, torch.tensor([1])))
    target = torch.tensor([1])
    sure = Distal(confidence=0.999999, rate=1.0)(
        model, noise(1, shape).to(memory_format=torch.channels_last), target
    )
    assert torch.allclose(sure, corner, atol=1e-4)
    assert float(confidence(model, sure, target)) == pytest.approx(best, rel=1e-4)
    few = Distal(confidence=0.999999, rate=0.1, steps=3, momentum=0)(model, noise(1, shape), target)
    assert 0.15 < float((few - noise(1, shape)).norm()) < 0.3 + 1e-5, (
        "three steps of 0.1, less what the box holds back"
    )


def test_sure_images_do_not_move_and_cost_one_pass():
    model = Goals(0.0, 0.5, 1.0)
    start = torch.tensor([0.0, 1.0, 0.02, 0.5])[:, None, None, None].expand(-1, *SHAPE).clone()
    targets = torch.tensor([0, 2, 0, 0])
    counted = Counted(model, 4, start.device)
    images = Distal(steps=40)(counted, start, targets)
    assert torch.equal(images[:3], start[:3])
    assert counted.forwards[:3].tolist() == [1, 1, 1]
    # from 0.5 to below 0.25 is 2 in L2, and the n-th move is 0.1 (1 + 0.95 + ...) = 2 (1 - 0.95^n)
    moved, n = 0.0, 0
    while moved <= 2:
        n += 1
        moved += 2 * (1 - 0.95**n)
    assert n + 1 <= counted.forwards[3] <= n + 3
    assert confidence(model, images, targets)[3] >= 0.9


@pytest.mark.parametrize("depth", [30.0, 300.0, 3000.0])
def test_climbs_out_of_a_flat_posterior(depth: float):
    """Far below the floor p is equal for all classes, and its float32 gradient is 0."""
    model, posterior = Goals(0.0, 0.5, 1.0), Posterior(sharpness=depth, floor=-depth)
    targets = torch.tensor([0, 1, 2])
    assert confidence(model, noise(3), targets, posterior).tolist() == pytest.approx(
        [1 / 3] * 3, abs=1e-6
    )
    images = Distal(posterior=posterior)(model, noise(3), targets)
    assert (confidence(model, images, targets, posterior) >= 0.9).all()
    distance = (images - torch.tensor([0, 0.5, 1])[:, None, None, None]).flatten(1).norm(dim=1)
    assert (distance < 1).all(), "p >= 0.9 only where the squared distance is below 1"
    careless = Distal()(model, noise(3), targets)
    assert (confidence(model, careless, targets) >= 0.9).all()
    assert (confidence(model, careless, targets, posterior) < 0.9).all(), (
        "the softmax is sure much farther away"
    )


def test_the_posterior_is_that_of_analysis_by_synthesis():
    model = AnalysisBySynthesis(ClassVAEs(SHAPE, 3))
    logits = torch.tensor([[-1.0, -2, -3], [-9, -12, -10.5], [-200, -300, -400]])
    probabilities = Posterior(1.0, float(model.floor))(logits)
    assert torch.allclose(probabilities, model.probabilities(logits), atol=1e-6)
    assert torch.allclose(probabilities[2], torch.tensor([1 / 3] * 3))
    assert torch.allclose(Posterior()(logits), logits.softmax(1))
    assert torch.allclose(Posterior(0.5)(logits), (logits / 2).softmax(1))
    each = torch.tensor(
        [math.exp(-2) + math.exp(-5), math.exp(-4) + math.exp(-5), math.exp(-6) + math.exp(-5)]
    )
    assert torch.allclose(Posterior(2.0, -5.0)(logits[:1])[0], each / each.sum())


def test_what_is_climbed_rises_with_the_posterior():
    posterior = Posterior(1.5, -2.0)
    logits = 4 * torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    logits[:, 1:] = logits[:1, 1:]  # only the target's own differs
    classes = torch.zeros(500, dtype=torch.int64)
    order = logits[:, 0].argsort()
    for values in (posterior(logits)[:, 0], posterior.above_floor(logits, classes)):
        assert (values[order].diff() >= -1e-6).all()
    assert torch.allclose(
        Posterior().above_floor(logits, classes), logits.log_softmax(1)[:, 0], atol=1e-5
    )


def test_the_surest_image_is_kept_when_it_overshoots():
    """A grey level that long strides with momentum pass by again and again."""
    model, target = Goals(0.0, 0.5, 1.0), torch.tensor([1])
    start = torch.full((1, *SHAPE), 0.9)
    posterior = Posterior(0.05)
    paths = [
        Distal(confidence=0.999999999, rate=1.5, steps=steps, posterior=posterior)
        for steps in range(25)
    ]
    confidences = [
        float(confidence(model, path(model, start, target), target, posterior)) for path in paths
    ]
    assert all(later >= earlier for earlier, later in pairwise(confidences))
    assert confidences[-1] > confidences[0]


@pytest.mark.parametrize("gradient", ["bpda", "estimate"])
def test_climbs_where_there_is_no_gradient(gradient: str):
    model = Quantised(digits_model())
    start, targets = noise(2), torch.tensor([3, 8])
    climb = Distal(posterior=SHARP, rate=0.3)
    assert torch.equal(climb(model, start, targets), start)
    images = with_gradient(climb, gradient)(model, start, targets)
    assert (confidence(model, images, targets, SHARP) >= 0.9).all()
    assert images.min() >= 0
    assert images.max() <= 1


@pytest.mark.parametrize("wrap", [BPDA, partial(Estimated, step=1.0)])
def test_climbs_through_binarised_input(wrap: Callable):
    """Estimated slopes see a threshold only within a step; the authors' code takes the range."""
    model = nn.Sequential(Binarise(), digits_model())
    start, targets = noise(3), torch.tensor([0, 4, 7])
    climb = Distal(posterior=SHARP, rate=0.5, steps=60)
    assert torch.equal(climb(model, start, targets), start)
    images = wrap(climb)(model, start, targets)
    assert (confidence(model, images, targets, SHARP) >= 0.9).all()


def test_estimated_slopes_are_only_asked_for_on_the_way():
    """2 passes a value and step, none for an image that is sure, none after the last step."""
    model = Goals(0.0, 1.0)
    start = torch.stack([torch.zeros(SHAPE), torch.full(SHAPE, 0.4)])
    counted = Counted(model, 2, start.device)
    Estimated(Distal(steps=2, confidence=0.99, rate=1e-3))(counted, start, torch.tensor([0, 1]))
    assert counted.forwards.tolist() == [1, 3 + 2 * 2 * 64]


def test_a_model_that_nothing_moves_costs_one_pass():
    counted = Counted(Constant(), 3, noise(3).device)
    assert torch.equal(Distal()(counted, noise(3), torch.tensor([0, 1, 2])), noise(3))
    assert counted.forwards.tolist() == [1, 1, 1]


def test_not_a_number_is_not_sure():
    class Lost(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :3] * math.nan

    run = Counted(Lost(), 2, torch.device("cpu"))  # a call by hand refuses NaN
    assert torch.equal(Distal(steps=2)(run, noise(2), torch.tensor([0, 1])), noise(2))


def test_knows_no_batch():
    model, targets = Narrow((3, 6, 6)), torch.tensor([0, 1, 2, 3, 0, 1])
    start = noise(6, (3, 6, 6))
    attack = Distal(steps=30)
    together = attack(model, start, targets)
    alone = [attack(model, start[i : i + 1], targets[i : i + 1]) for i in range(6)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    turned = attack(
        model, start.flip(0).contiguous(memory_format=torch.channels_last), targets.flip(0)
    )
    assert torch.allclose(together, turned.flip(0), atol=1e-5)
    assert attack(model, start[:0], targets[:0]).shape == (0, 3, 6, 6)


@pytest.mark.parametrize(
    "settings",
    [
        {"confidence": 1.0},
        {"confidence": 0.0},
        {"confidence": math.nan},
        {"steps": -1},
        {"rate": 0.0},
        {"momentum": 1.0},
    ],
)
def test_refuses_what_makes_no_sense(settings: dict):
    with pytest.raises(InputError, match="give"):
        partial(Distal, **settings)()
