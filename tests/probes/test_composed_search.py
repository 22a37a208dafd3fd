"""The search over compositions, on a model whose worst transform is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.attacks.core.losses import margin
from scotoma.auditing import make_claim
from scotoma.data.dataset import ArraySplit, from_splits
from scotoma.execution.run import Run
from scotoma.probes.base import Settings
from scotoma.probes.blindspots.map import BlindSpotMap
from scotoma.probes.blindspots.search import (
    Objective,
    best_so_far,
    evolution,
    gradient_search,
    random_search,
)
from scotoma.threat import Threat
from scotoma.transforms.space import Space

EPS = 0.04
FAMILIES = ("scale-shift", "gamma")


def halves(n: int = 400):
    """Images of a dark and a light half; in class 1 the left is lighter than the right by 0.1."""
    labels = np.arange(n) % 2
    images = np.full((n, 1, 4, 4), 0.5, np.float32)
    images += np.where(labels, 0.05, -0.05)[:, None, None, None].astype(np.float32)
    images[..., 2:] = 1 - images[..., 2:]
    return from_splits("halves", None, ArraySplit(images, labels, "halves"))


class Worse(nn.Module):
    """Compares the halves, with a bias towards class 0 that depends on the mean of the image.

    The bias is largest at a mean of 0.33, to which gamma or a darker background move an image, and
    it matters most where the contrast is low.
    """

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))
        difference = images[..., :2].mean((1, 2, 3)) - images[..., 2:].mean((1, 2, 3))
        score = difference - 0.06 * torch.exp(-(((mean - 0.33) / 0.1) ** 2))
        return torch.stack([-score, score], 1)


@pytest.fixture
def objective(tmp_path):
    claim = make_claim(Worse(), halves(), Threat("linf", EPS))
    run = Run(claim, tmp_path / "run", limit=60)
    return lambda: Objective(run, Space(FAMILIES, 1), run.indices[::2], torch.arange(100), rows=20)


def test_a_composition_of_contrast_and_gamma_is_found_in_fewer_passes(objective):
    ours, alone, random = objective(), objective(), objective()
    gradient_search(ours, [np.array([0.1, 0.1, 0.1])], 20_000, 0)
    evolution(alone, 20_000, 0)
    random_search(random, 20_000, 0)
    for each in (ours, alone, random):
        assert 20_000 <= each.passes < 26_000
        curve = [score for _, score in best_so_far(each.visits)]
        assert curve == sorted(curve, reverse=True)
        assert each.best.score == curve[-1]
    assert ours.best.cost <= 0.005
    assert ours.best.score < 0.75 * ours.visits[0].score
    assert ours.best.score <= min(alone.best.score, random.best.score) + 0.05


def test_the_gradient_is_that_of_the_margin(objective):
    search = objective()
    point, step = np.array([0.3, 0.2, 0.3]), 0.005
    slopes, cost = search.ascent(point, torch.arange(10))
    assert cost <= 0.005
    transform = search.space.at(point, keep=True)
    _, noise = search._push(transform(search.images[:10]), search.labels[:10], transform.contrast)

    def margins(at: np.ndarray) -> Tensor:
        other = search.space.at(at, keep=True)
        attacked = (other(search.images[:10]) + other.contrast * noise).clamp(0, 1)
        return margin(search.run.model(attacked), search.labels[:10])

    scale = margins(point).abs().median()
    for i in range(3):
        up, down = point.copy(), point.copy()
        up[i], down[i] = up[i] + step, down[i] - step
        ends = (-scale * F.softplus(-margins(at) / scale).sum() for at in (up, down))
        assert slopes[i] == pytest.approx(float(next(ends) - next(ends)) / (2 * step), rel=0.25)


def test_the_map_reports_the_composition_on_the_other_half(tmp_path):
    claim = make_claim(Worse(), halves(), Threat("linf", EPS))
    run = Run(claim, tmp_path / "run", limit=100)
    probe = BlindSpotMap(FAMILIES, resolution=1, rounds=0, steps=10, composed=15)
    finding = probe.finding(claim, run, Settings(attack="ifgsm"))
    rows = {row["family"]: row for row in finding.tables["families"]}
    assert rows["composed"]["n_accuracy"] == 400
    singles = (rows[family]["robust_alpha_eps"] for family in FAMILIES)
    assert rows["composed"]["robust_alpha_eps"] <= min(each for each in singles if each is not None)
    assert finding.numbers["worst_family"] in ("composed", "gamma")
    assert [figure.name for figure in finding.figures][:3] == ["families", "left", "search"]
    before = run.passes
    assert probe.finding(claim, run, Settings(attack="ifgsm")).tables == finding.tables
    assert run.passes == before
