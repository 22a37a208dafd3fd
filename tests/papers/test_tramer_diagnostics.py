"""Loss ratio, cosine, norm and directions, on digits and where they are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from scotoma.metrics.linearity import Linearity
from scotoma.models.checkpoint import save_checkpoint
from scotoma.models.small_cnn import small_cnn
from scotoma.papers.item import Context
from scotoma.papers.tramer2018 import published
from scotoma.papers.tramer2018.diagnostics import (
    DRAWN,
    MANY,
    SHARES,
    Diagnosis,
    Diagnostics,
    diagnose,
)
from scotoma.reference import REFERENCES, Reference
from scotoma.results.finding import Curve
from scotoma.training.loop import Schedule

LIMIT = 40


class Digits(Diagnostics):
    """The same of the digits."""

    trainings = {"natural": "digits-other", "fgsm": "digits-pgd", "ensemble": "digits-pgd"}


def test_the_figures_of_a_model_on_digits(context, digits):
    with context(limit=LIMIT) as here:
        rows, finding = Digits().measure(here)
        model = here.model("digits-pgd").module
    ours = {(each["model"], each["measure"], each["eps"]): each for each in rows}
    indices = torch.randperm(len(digits.test), generator=torch.Generator().manual_seed(0))[:LIMIT]
    leaf = digits.test.images(indices).requires_grad_()
    loss = nn.functional.cross_entropy(model(leaf), digits.test.labels[indices], reduction="sum")
    (gradient,) = torch.autograd.grad(loss, leaf)
    norm = ours["digits-pgd", "gradient norm", None]
    assert norm["ours"] == pytest.approx(gradient.flatten(1).norm(dim=1).mean().item(), rel=1e-4)
    assert norm["low"] < norm["ours"] < norm["high"]
    assert (norm["n"], norm["published"]) == (LIMIT, None)
    assert 0 < ours["digits-pgd", "loss ratio", None]["ours"] <= 1.01
    for eps in (0.025, 0.0625, 0.1):
        shares = [
            ours["digits-pgd", f"at least {k} adversarial directions", eps]["ours"] for k in MANY
        ]
        assert shares == sorted(shares, reverse=True)
    drawn = [figure.table for figure in finding.figures if isinstance(figure, Curve)]
    assert drawn == [table for table in finding.tables if table.startswith("directions")]
    assert len(finding.tables["directions_0.1"]) == 3 * len(DRAWN)
    assert finding.tables["summary"][1]["paper_loss_ratio"] == published.LOSS_RATIO["v3adv"]
    assert "ImageNet" in " ".join(finding.notes)


def test_what_was_found_is_not_looked_for_again(context, monkeypatch):
    with context(limit=LIMIT) as here:
        found = diagnose(here, "digits-pgd", (1.0,))
        assert len(found.norms) == LIMIT
        assert len(found.directions[0.1]) <= LIMIT
    monkeypatch.setattr(
        "scotoma.papers.tramer2018.diagnostics.loss_linearity", lambda *args: pytest.fail("again")
    )
    monkeypatch.setattr(
        "scotoma.papers.tramer2018.diagnostics.adversarial_directions",
        lambda *args: pytest.fail("again"),
    )
    monkeypatch.setattr(
        "scotoma.execution.evaluation.attack_batch", lambda *args: pytest.fail("again")
    )
    with context(limit=LIMIT) as here:
        again = diagnose(here, "digits-pgd", (1.0,))
    assert again.steps.ratio == found.steps.ratio
    assert (again.norms == found.norms).all()
    assert (again.directions[0.1] == found.directions[0.1]).all()


def test_a_model_that_forgets_the_image(tmp_path, monkeypatch):
    """Its gradient is zero everywhere: no step moves an image, and one step is as good as ten."""
    folder = tmp_path / "models"
    folder.mkdir()
    net = small_cnn((1, 8, 8), 10)
    with torch.no_grad():
        net.fc2.weight.zero_()  # type: ignore[union-attr, operator]
    save_checkpoint(
        folder / "flat.safetensors", net, {"arch": "small-cnn", "shape": (1, 8, 8), "classes": 10}
    )
    monkeypatch.setitem(
        REFERENCES, "flat", Reference("natural", "digits", "small-cnn", "linf:0.1", Schedule(1))
    )
    with Context(tmp_path / "runs", limit=LIMIT, models=folder) as here:
        found = diagnose(here, "flat", (1.0,))
    assert found.norm.value == 0
    assert found.steps.ratio.value == pytest.approx(1)
    assert math.isnan(found.steps.mean_cosine.value)
    assert not found.directions[0.1].any()


def diagnosis(
    ratio: float, cosine: float, some: float, norm: float = 0.1, n: int = 200
) -> Diagnosis:
    """A model with these figures, and hardly any noise."""
    noise = torch.linspace(-0.01, 0.01, n)
    single, cosines = ratio + noise, cosine + noise
    steps = Linearity(torch.zeros(n), single, torch.ones(n), cosines)
    return Diagnosis(
        steps,
        norm + np.linspace(-0.01, 0.01, n),
        {0.1: np.zeros(n, int), 0.3: (np.arange(n) < some * n).astype(int)},
        (4,),
    )


@pytest.mark.parametrize(
    ("fgsm", "fails"),
    [
        ((0.07, 0.02, 0.2, 0.17), None),
        ((0.19, 0.02, 0.2, 0.17), "loss ratio: fgsm below natural"),
        ((0.18, 0.02, 0.2, 0.17), "loss ratio: fgsm below ensemble"),
        ((0.07, 0.13, 0.2, 0.17), "cosine"),
        ((0.07, 0.02, 0.9, 0.17), "images"),
        ((0.07, 0.02, 0.2, 0.1), "gradient norm"),
    ],
)
def test_the_papers_own_figures_are_a_reproduction_and_each_can_fail(fgsm, fails):
    found = {
        "natural": diagnosis(0.19, 0.13, 0.9),
        "fgsm": diagnosis(*fgsm),
        "ensemble": diagnosis(0.18, 0.1, 0.9),
    }
    failing = [check.claim for check in Diagnostics.checks(found) if not check.holds]
    assert (not failing) if fails is None else any(check.startswith(fails) for check in failing)


def test_the_mean_norm_leaves_out_what_is_no_number():
    steps = Linearity(*(torch.ones(3) for _ in range(4)))
    found = Diagnosis(steps, np.array([1.0, 3.0, np.nan]), {}, ())
    assert (found.norm.value, found.norm.n) == (2.0, 2)
    assert 1.0 <= found.norm.low <= found.norm.high <= 3.0
    assert math.isnan(Diagnosis(steps, np.array([np.inf]), {}, ()).norm.value)


def test_sizes_are_the_papers_shares_of_eps():
    assert SHARES == (0.25, 0.625, 1.0)
