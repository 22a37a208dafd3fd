"""Rivals of the distance, on digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from scotoma.papers.item import SUMMARY
from scotoma.papers.zhang2019 import rivals
from scotoma.papers.zhang2019.rivals import DISTANCES, MARGIN, Rivals, _private, predicted

LIMIT = 60
FEWER = {"HELD_OUT": 96, "PRIVATE_SEEDS": (0,), "PRIVATE_STEPS": 30}


class DigitsRivals(Rivals):
    models = ("digits-pgd", "digits-other")


def test_scores_predict_which_images_the_attack_breaks(context, digits, monkeypatch):
    for name, value in FEWER.items():
        monkeypatch.setattr(rivals, name, value)
    with context(limit=LIMIT) as here:
        rows, finding = DigitsRivals().measure(here)
        found = predicted(here, DigitsRivals.models)
        run = here.run("digits-pgd")
        network = here.model("digits-pgd").module
        few = run.subset(run.correct_indices(LIMIT))
        weights = torch.cat([part.flatten() for part in network.parameters()])
        again = rivals._further(here.model("digits-pgd"), few)
    changed = torch.cat([part.flatten() for part in again.parameters()])
    assert not torch.equal(weights, changed)  # on a copy: the network itself is as it was
    broken = found[MARGIN].fooled
    by = {(row["predictor"], row["measure"]): row["ours"] for row in rows}
    for name, score in ((name, trend.distance) for name, trend in found.items()):
        assert score.shape == (LIMIT,)
        assert np.isfinite(score).all()
        assert by[name, "auroc"] == pytest.approx(roc_auc_score(broken, score), abs=1e-6)
    assert by[MARGIN, "auroc"] > 0.8
    assert by["margin in features", "auroc"] > 0.8
    assert by[MARGIN, "at_equal_margin"] is None
    assert finding.numbers["broken"] == broken.sum()
    assert len(finding.tables[SUMMARY]) == len(found) == 11
    assert [check["where"] for check in finding.tables["checks"]] == list(DISTANCES)


def test_private_training_learns_less_with_more_noise():
    labels = torch.arange(400) % 2
    images = torch.rand(400, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    images[labels == 1, :, :2] += 1
    right = {
        noise: float(
            (_private(images, labels, noise, 0)(images).argmax(1) == labels).float().mean()
        )
        for noise in (0.0, 1000.0)
    }
    assert right[0.0] > 0.95
    assert right[1000.0] < right[0.0]
