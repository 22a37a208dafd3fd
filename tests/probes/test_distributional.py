"""The distributional certificate on a small smooth network, beside what it bounds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from scotoma.auditing import make_claim
from scotoma.certificates.wasserstein import losses, transport
from scotoma.data.dataset import Dataset
from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled
from scotoma.models.classifier import Classifier
from scotoma.probes.base import Settings
from scotoma.probes.certificates import transport as shifts
from scotoma.probes.certificates.distributional import Distributional, Results
from scotoma.probes.certificates.transport import Bound, TransportedSet
from scotoma.threat import Threat
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.stats import mean, paired_difference

THREAT = Threat("linf", 0.1)
GAMMA = 0.5
N = 150


@pytest.fixture(scope="module")
def smooth(digits) -> Classifier:
    """A small network after a second of distributionally robust training."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ELU(), nn.Linear(32, 10))
    images, labels = digits.train.images(torch.arange(600)), digits.train.labels[:600]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = losses(model(transport(model, images, labels, GAMMA)), labels).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Classifier.of(model, "smooth", card={"options": {"gamma": GAMMA}})


@pytest.fixture
def finding(tmp_path, digits, smooth):
    claim = make_claim(smooth, digits, THREAT)
    return Distributional().finding(claim, Run(claim, tmp_path / "run", limit=N), Settings())


def test_the_certificate_is_tight_at_the_images_that_it_is_made_of(finding, digits, smooth):
    sample = shuffled(len(digits.train), 0)[:N].sort().values
    images, labels = digits.train.images(sample), digits.train.labels[sample]
    ascended = transport(smooth.module, images, labels, GAMMA)
    numbers = finding.numbers
    assert numbers["gamma"] == GAMMA
    assert numbers["tight_rho"] == pytest.approx(
        (ascended - images).flatten(1).square().sum(1).mean().item(), rel=1e-4
    )
    assert numbers["tight_loss"] == pytest.approx(
        losses(smooth.module(ascended), labels).mean().item(), rel=1e-4
    )
    assert numbers["tight_loss"] == pytest.approx(
        numbers["phi"] + GAMMA * numbers["tight_rho"], rel=1e-4
    )


def test_it_bounds_the_loss_of_other_distributions_near_the_training_images(
    finding, digits, smooth
):
    sample = shuffled(len(digits.train), 0)[:N].sort().values
    images, labels = digits.train.images(sample), digits.train.labels[sample]
    leaf = images.clone().requires_grad_()
    losses(smooth.module(leaf), labels).sum().backward()
    assert leaf.grad is not None
    norm = leaf.grad.flatten(1).norm(dim=1).clamp_min(1e-9)[:, None, None, None]
    tightest = float("inf")
    for size in (0.0, 0.1, 0.3, 1.0, 3.0):
        for direction in (
            leaf.grad / norm,
            leaf.grad / norm.mean(),
            leaf.grad.sign() / 8,
            torch.randn_like(images) / 8,
        ):
            moved = images + size * direction
            rho = (moved - images).flatten(1).square().sum(1).mean().item()
            slack = (
                GAMMA * rho
                + finding.numbers["phi"]
                - losses(smooth.module(moved), labels).mean().item()
            )
            assert slack >= -1e-5
            tightest = min(tightest, slack)
    assert tightest < 0.5, "the bound says something"


def test_the_curve_rises_and_the_loss_lies_below_it(finding):
    allowed = [
        row for row in finding.tables["curve"] if row["series"] == "allowed by the certificate"
    ]
    reached = [
        row for row in finding.tables["curve"] if row["series"] != "allowed by the certificate"
    ]
    losses_allowed = [row["loss"] for row in allowed]
    assert losses_allowed == sorted(losses_allowed)
    assert [row["rho"] for row in reached] == sorted(row["rho"] for row in reached)
    assert len(reached) == 4
    for row in finding.tables["grid"]:
        assert row["bound"] == pytest.approx(finding.numbers["phi"] + GAMMA * row["rho"], rel=1e-4)
    assert (finding.numbers["contradictions"], finding.numbers["exceeding"]) == (0, 0)
    assert 0 <= finding.numbers["curved_share"] <= 1
    json.dumps([finding.numbers, finding.tables], allow_nan=False)


def test_the_table_marks_the_shifts_that_are_shown_to_be_harmless(finding, digits, smooth):
    base, *others = finding.tables["grid"]
    assert (base["harmless"], base["cost"], base["label"]) == (True, None, "1, 0")
    images, labels = digits.test.images(torch.arange(len(digits.test))), digits.test.labels
    correct = (smooth.module(images).argmax(1) == labels).numpy()
    for row in others:
        after = smooth.module(ScaleShift(row["alpha"], row["beta"])(images)).argmax(1) == labels
        expected = paired_difference(correct, after.numpy())
        assert row["cost_high"] == pytest.approx(expected.high, rel=1e-5)
        assert row["harmless"] == (expected.high <= 0.01)
        assert row["label"].startswith("(") == (not row["harmless"])
    assert finding.numbers["harmless"] == sum(row["harmless"] for row in others)


def test_an_ascent_that_reaches_no_maximum_is_detected(tmp_path, digits, smooth, monkeypatch):
    monkeypatch.setattr(shifts, "transport", lambda model, images, labels, gamma: images - 0.3)
    claim = make_claim(smooth, digits, THREAT)
    finding = Distributional().finding(claim, Run(claim, tmp_path / "run", limit=N), Settings())
    assert finding.numbers["exceeding"] > 0.5 * N
    assert finding.verdict == "broken"


def test_where_it_does_not_apply(tmp_path, digits, smooth, linear):
    relu = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 10))
    alone = Dataset(digits.name, digits.test, None, digits.classes, digits.sha256)
    for number, (model, data, says) in enumerate(
        [(relu, digits, "smooth"), (smooth, alone, "no training images")]
    ):
        claim = make_claim(model, data, THREAT)
        finding = Distributional().finding(
            claim, Run(claim, tmp_path / str(number), limit=5), Settings()
        )
        assert finding.verdict == "not applicable"
        assert says in finding.headline


def shifted(
    alpha: float, right: float, distance: float, loss: float, of: int = 1000
) -> TransportedSet:
    """A set of 100 images, whose shift leaves `right` % of `of` test images correct."""
    import polars as pl

    n = 100
    values = {"moved_loss": loss, "moved_distance": distance, "loss": loss, "distance": distance}
    frame = pl.DataFrame(
        {
            "right": [i < right for i in range(n)],
            **{name: [value] * n for name, value in values.items()},
        }
    )
    cost = paired_difference(np.ones(of), np.arange(of) < right * of / 100)
    return TransportedSet(alpha, 0.0, frame, cost)


@pytest.mark.parametrize(
    ("other", "curved", "expected"),
    [
        ((0.9, 100, 1.0, 1.0), 0.05, "holds"),
        ((0.9, 100, 1.0, 1.0), 0.06, "weak"),
        ((0.9, 100, 4.0, 1.0), 0.0, "weak"),  # the certificate allows a guess there
        ((0.9, 99, 4.0, 1.0), 0.0, "undecided"),  # not shown to be harmless: the interval
        ((0.9, 100, 4.0, 1.0, 100), 0.0, "undecided"),  # too few images show it
        ((0.9, 97, 4.0, 1.0), 0.06, "weak"),  # not harmless, but curved
        ((0.9, 100, 1.0, 2.0), 0.0, "broken"),  # above the certificate
    ],
)
def test_the_verdict_at_the_edges_of_its_rule(other, curved, expected):
    base = shifted(1.0, 100 - 1, 0.0, 0.5)
    bound = Bound(GAMMA, mean(base.worth(GAMMA)))
    results = Results(bound, base, base, [base], [shifted(*other)], curved, guess=2.3)
    assert results.verdict == expected
