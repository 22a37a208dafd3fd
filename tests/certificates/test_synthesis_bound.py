"""The estimated bound of analysis by synthesis: known answers, and beside attacks elsewhere."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.ddn import DDN
from scotoma.certificates.synthesis import lower_bounds
from scotoma.data.dataset import Dataset
from scotoma.models import synthesis
from scotoma.models.classifier import freeze
from scotoma.models.synthesis import AnalysisBySynthesis
from scotoma.models.vae import ClassVAEs
from scotoma.threat import Threat
from scotoma.training.balance import balanced_order
from scotoma.training.plain import Synthesis
from scotoma.utils.errors import InputError

L2 = Threat("l2", 1.5)
SHAPE = (1, 8, 8)
PLANE = (1, 1, 2)


class Lines(AnalysisBySynthesis):
    """Classes draw points of lines in the plane, G_c(z) = start_c + z * way_c: the best are known.

    A latent that costs nothing (`beta` of 0) lets a class reach all of its line.
    """

    def __init__(self, starts: list[list[float]], ways: list[list[float]], **settings):
        super().__init__(ClassVAEs(SHAPE, len(starts)), samples=1, steps=0, **settings)
        self.starts, self.ways = torch.tensor(starts), torch.tensor(ways)

    def synthesise(self, images: Tensor, beta: float | None = None) -> synthesis.Synthesis:
        beta = self.beta if beta is None else beta
        ahead = images.flatten(1)[:, None] - self.starts
        latents = (ahead * self.ways).sum(2, keepdim=True) / (
            self.ways.square().sum(1, keepdim=True) + beta / 2 + 1e-12
        )
        decoded = self.starts + latents * self.ways
        losses = (images.flatten(1)[:, None] - decoded).square().sum(
            2
        ) + beta / 2 * latents.square().sum(2)
        return synthesis.Synthesis(
            losses * self.scales, latents, decoded.view(*decoded.shape[:2], *PLANE)
        )


def lines(scales: tuple[float, ...] | None = None, beta: float = 1.0) -> AnalysisBySynthesis:
    starts = [[0.1, 0.2], [0.9, 0.7], [0.3, 0.95]]
    ways = [[0.3, 0.1], [-0.2, 0.35], [0.5, 0.0]]
    return Lines(starts, ways, scales=scales, beta=beta)


def grid(side: int) -> Tensor:
    """The plane's points in the unit square, one an image."""
    steps = torch.linspace(0, 1, side)
    return torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).view(-1, *PLANE)


def flat_model(
    levels: tuple[float, ...], scales: tuple[float, ...] | None = None
) -> AnalysisBySynthesis:
    """Class k draws the flat image of grey level `levels[k]` for any latent; latent 0 is best."""
    vaes = ClassVAEs(SHAPE, len(levels))
    convolutions = [layer for layer in vaes.decoder if isinstance(layer, nn.ConvTranspose2d)]
    for layer in convolutions:
        nn.init.zeros_(layer.weight)
    assert convolutions[-1].bias is not None
    convolutions[-1].bias.data = torch.tensor(levels).logit(1e-7)
    model = AnalysisBySynthesis(vaes, samples=10, steps=40, scales=scales)
    freeze(model)
    return model


def flat(*levels: float) -> Tensor:
    return torch.tensor(levels)[:, None, None, None].expand(-1, *SHAPE).clone()


def digits_abs(digits: Dataset) -> AnalysisBySynthesis:
    """Return a small search over autoencoders of the digits, trained for a few seconds.

    Its prior weighs little, so that the paper's bound, which omits it, is not empty.
    """
    assert digits.train is not None
    torch.manual_seed(0)
    model = AnalysisBySynthesis(ClassVAEs(SHAPE, 10), samples=100, steps=15, beta=0.2)
    recipe, generator = Synthesis(L2), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), recipe.rate)
    for part in balanced_order(digits.train.labels, 10, 2500, generator).split(50):
        images, labels = digits.train.images(part), digits.train.labels[part]
        optimizer.zero_grad()
        recipe(model, images, labels, 0.0, generator).backward()
        optimizer.step()
    freeze(model)
    recipe.finish(model, digits.train)
    return model


@pytest.mark.parametrize("priors", [False, True])
def test_between_flat_images_it_is_the_distance_to_the_midpoint(priors: bool):
    images = flat(0.0, 0.1, 0.25, 0.9, 0.5)
    expected = torch.tensor([0.15, 0.05, 0.1, 0.25, 0.15]) * 8  # sixty-four pixels
    assert torch.allclose(
        lower_bounds(flat_model((0.0, 0.3, 1.0)), images, priors=priors), expected, atol=2e-3
    )


def test_scales_move_the_edge():
    """With latents of 0 the label changes where sqrt(s_y) (a + eps) = sqrt(s_c) (d - eps)."""
    model, images = flat_model((0.0, 1.0), scales=(1.0, 0.49)), flat(0.1, 0.3, 0.5, 0.7)
    edge = 0.7 / 1.7
    assert model(images).argmax(1).tolist() == [0, 0, 1, 1]
    bounds = lower_bounds(model, images)
    assert torch.allclose(bounds, (images[:, 0, 0, 0] - edge).abs() * 8, atol=2e-3)


@pytest.mark.parametrize("scales", [None, (1.0, 0.7, 1.4)])
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_bound_is_where_its_condition_ends(scales: tuple[float, ...] | None, beta: float):
    model, images = lines(scales, beta), grid(9)
    own, nearest = model.synthesise(images), model.synthesise(images, 0.0)
    for priors in (False, True):
        bounds = lower_bounds(model, images, priors=priors)
        for row, label in enumerate(own.losses.argmin(1).tolist()):
            a = float((images[row] - own.images[row, label]).norm())
            kappa = beta / 2 * float(own.latents[row, label].square())
            ends = []
            for other in {0, 1, 2} - {label}:
                t = math.sqrt(own.losses[row, other] / model.scales[other]) if priors else 0.0
                t = t or float((images[row] - nearest.images[row, other]).norm())
                low, high = 0.0, t
                for _ in range(50):
                    eps = (low + high) / 2
                    stable = (
                        model.scales[label] * ((a + eps) ** 2 + kappa)
                        < model.scales[other] * (t - eps) ** 2
                    )
                    low, high = (eps, high) if stable else (low, eps)
                ends.append(low)
            assert float(bounds[row]) == pytest.approx(min(ends), abs=1e-5)


@pytest.mark.parametrize("scales", [None, (1.0, 0.7, 1.4)])
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_no_point_of_another_class_lies_nearer(scales: tuple[float, ...] | None, beta: float):
    """By trying all points of a fine grid, where the minima over latents are exact."""
    model, images, points = lines(scales, beta), grid(9), grid(201)
    labels, predictions = model(images).argmax(1), model(points).argmax(1)
    apart = torch.cdist(images.flatten(1), points.flatten(1))
    real = apart.masked_fill(labels[:, None] == predictions, torch.inf).amin(1)
    paper, tighter = lower_bounds(model, images), lower_bounds(model, images, priors=True)
    assert (paper <= tighter + 1e-6).all()
    assert (tighter <= real + 1e-6).all()
    assert (tighter.mean() > paper.mean() + 0.01) == (beta > 0)
    assert tighter.mean() > 0.5 * real.mean(), "the bound says something"
    if scales is None:  # the wrong way round, or half as careful, it would be refuted here
        assert (2 * tighter > real).any()


def test_a_prior_that_outweighs_the_distance_leaves_nothing():
    """Class 1 wins by its prior although class 0 could draw the image itself: d_c < a."""
    model = Lines([[0.0, 0.0], [0.5, 0.4]], [[0.05, 0.05], [0.0, 0.0]])
    images = torch.tensor([0.5, 0.5]).view(1, *PLANE)
    assert model(images).argmax(1) == 1
    assert lower_bounds(model, images).tolist() == [0.0]
    assert lower_bounds(model, images, priors=True) > 0.1


def test_the_only_class_is_stable_everywhere():
    assert lower_bounds(Lines([[0.0, 0.0]], [[1.0, 1.0]]), grid(2)).tolist() == [torch.inf] * 4


@pytest.mark.slow
def test_no_attack_on_a_trained_model_comes_nearer(digits: Dataset):
    model, images = digits_abs(digits), digits.test.images(torch.arange(6))
    labels = model(images).argmax(1)
    adversarial = DDN("l2", steps=20)(model, images, labels)
    distances = torch.where(
        model(adversarial).argmax(1) != labels,
        (adversarial - images).flatten(1).norm(dim=1),
        torch.inf,
    )
    assert distances.isfinite().sum() >= 4
    for priors in (False, True):
        bounds = lower_bounds(model, images, priors=priors)
        assert (distances >= bounds).all()
        assert bounds.median() > 0.1


def test_batches_and_wrappers_change_nothing():
    model, images = (
        flat_model((0.0, 0.3, 1.0)),
        torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0)),
    )
    bounds = lower_bounds(model, images)
    assert torch.allclose(
        torch.cat([lower_bounds(model, each[None]) for each in images]), bounds, atol=1e-4
    )
    assert torch.equal(lower_bounds(nn.Sequential(nn.Identity(), model), images), bounds)
    assert torch.equal(lower_bounds(Counted(model, 3, images.device), images), bounds)
    assert torch.allclose(
        lower_bounds(model, images.to(memory_format=torch.channels_last)), bounds, atol=1e-4
    )


def test_asking_leaves_the_model_as_it_was():
    model, images = flat_model((0.0, 0.3, 1.0)), flat(0.1, 0.2, 0.8)
    before = model(images)
    lower_bounds(model, images, priors=True)
    assert model.race
    assert not model._forward_pre_hooks
    assert not model.explanation._forward_hooks
    assert torch.equal(model(images), before)


@pytest.mark.slow
def test_classes_that_lost_the_race_are_searched_to_the_end(monkeypatch):
    """With the latents that they had when they lost, the bound would be larger."""
    torch.manual_seed(0)
    model = AnalysisBySynthesis(ClassVAEs(SHAPE, 8), samples=1, steps=50, beta=0.5)
    for layer in model.vaes.decoder:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.constant_(layer.weight, 3.0)
    freeze(model)
    images = torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(0)) / 2
    monkeypatch.setattr(synthesis, "RACE", {0: 1.0})
    raced, label = lower_bounds(model, images, priors=True), model(images).argmax(1)
    model.race = False
    same = (
        model(images).argmax(1) == label
    )  # a race as hard as this one may be won by the wrong class
    assert same.sum() > 5
    assert torch.allclose(lower_bounds(model, images, priors=True)[same], raced[same], atol=1e-5)


class Darker(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images / 2


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.Flatten(), "reconstructs"),
        (AnalysisBySynthesis(ClassVAEs(SHAPE, 2), binary=True), "binarises"),
        (nn.Sequential(Darker(), flat_model((0.0, 1.0))), "changes images"),
    ],
)
def test_where_it_is_not_known(model: nn.Module, says: str):
    with pytest.raises(InputError, match=says):
        lower_bounds(model, flat(0.2, 0.4))
