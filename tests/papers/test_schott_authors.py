"""The authors' own attacks, on linear models with known smallest distances and on digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from scotoma.attacks.estimated import Estimated
from scotoma.models.classifier import Classifier
from scotoma.papers.schott2019 import authors, norms
from scotoma.papers.schott2019.authors import (
    FARTHEST,
    FromSubstitute,
    OneGradient,
    Steps,
    decisions_nearer,
)
from scotoma.papers.schott2019.norms import TRAINED, AuthorsNorms
from scotoma.probes.norms import probe
from scotoma.probes.norms.analysis import AttackRecords

KINDS = (OneGradient, Steps)


def linear(sign: float = 1.0) -> nn.Sequential:
    layer = nn.Linear(16, 2)
    with torch.no_grad():
        layer.weight.copy_(sign * torch.randn(2, 16, generator=torch.Generator().manual_seed(0)))
        layer.bias.zero_()
    return nn.Sequential(nn.Flatten(), layer).requires_grad_(False).eval()


def problem() -> tuple[nn.Sequential, Tensor, Tensor]:
    """Two classes, for which all gradients of the loss have one direction, and grey images."""
    images = 0.3 + 0.4 * torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    model = linear()
    return model, images, model(images).argmax(1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_smallest_distance_on_a_linear_model(kind, norm):
    model, images, labels = problem()
    found = kind(norm, FARTHEST[norm])(model, images, labels)
    sizes = (found - images).flatten(1).norm(dim=1, p=2 if norm == "l2" else torch.inf)
    logits, layer = model(images), model[1]
    assert isinstance(layer, nn.Linear)
    weight = layer.weight
    lead = (logits[:, 0] - logits[:, 1]).abs()
    dual = (weight[0] - weight[1]).norm(p=2 if norm == "l2" else 1)
    inside = (lead / dual < 0.25).numpy()  # where the edge of the box is not reached
    assert inside.sum() > 2
    assert sizes.numpy()[inside] == pytest.approx((lead / dual).numpy()[inside], rel=2e-2)
    assert (model(found).argmax(1) != labels).all()


@pytest.mark.parametrize("kind", KINDS)
def test_scores_lead_to_what_gradients_lead_to(kind):
    model, images, labels = problem()
    attack = kind("linf", FARTHEST["linf"])
    pairs = attack(model, images, labels), Estimated(attack)(model, images, labels)
    assert pairs[0] == pytest.approx(pairs[1], abs=1e-3)


def test_images_that_nothing_fools_stay():
    model, images, labels = problem()
    assert torch.equal(OneGradient("linf", 1e-4)(model, images, labels), images)


def test_a_substitute_is_as_good_as_the_model_if_it_is_the_model():
    model, images, labels = problem()
    source = Classifier.of(model, "the same")
    found = FromSubstitute("linf", FARTHEST["linf"], source=source)(model, images, labels)
    own = OneGradient("linf", FARTHEST["linf"])(model, images, labels)
    sizes = [(each - images).abs().flatten(1).amax(1) for each in (found, own)]
    assert sizes[0] == pytest.approx(sizes[1], rel=2e-2)
    away = Classifier.of(linear(-1), "opposed")  # its examples strengthen the class
    opposed = FromSubstitute("linf", FARTHEST["linf"], source=away)
    assert torch.equal(opposed(model, images, labels), images)


def test_the_authors_attacks_count_and_are_compared_with_decisions(context, monkeypatch):
    few = {"l0": ("pointwise",), "l2": ("ddn", "boundary"), "linf": ("hop-skip-jump",)}
    monkeypatch.setattr(norms, "SCORED", 4)
    monkeypatch.setattr(authors, "SUBSTITUTE", "digits-other")
    monkeypatch.setattr(norms, "QUERIES", 60)
    plain = probe.Norms
    monkeypatch.setattr(probe, "Norms", lambda **settings: plain(attacks=few, **settings))

    class Few(AuthorsNorms):
        trainings = dict.fromkeys(("CNN", TRAINED), "digits-pgd")

    with context(limit=8) as held:
        _, finding = Few().measure(held)
        each = norms.measure_with_authors(held, "digits-pgd")
    read = each.readings["l2"]
    assert len(read.attacks) == 2 + 4
    smallest = np.min([tried.records["l2"].to_numpy() for tried in read.attacks], axis=0)
    assert read.nearest[read.correct] == pytest.approx(smallest[read.correct])
    lines = [line for line in finding.tables["scores"] if line["model"] == TRAINED]
    assert {line["n"] for line in lines} == {4}
    by = {(line["norm"], line["attack"]): line["median"] for line in lines}
    assert by["l2", "FGSM (estimate)"] == pytest.approx(by["l2", "FGSM (exact)"], rel=0.1)
    claims = [check["check"] for check in finding.tables["checks"]]
    assert sum("the authors' attacks by" in claim for claim in claims) == 2
    own = tuple(t for t in each.by_gradients["l2"] if t.gradient != authors.TRANSFERRED)
    assert decisions_nearer(read, _scaled(own, 1e3)).value == 1
    assert decisions_nearer(read, _scaled(own, 1e-3)).value == 0


def _scaled(tried: tuple[AttackRecords, ...], by: float) -> tuple[AttackRecords, ...]:
    return tuple(
        replace(each, records=each.records.with_columns(pl.col("l2") * by)) for each in tried
    )
