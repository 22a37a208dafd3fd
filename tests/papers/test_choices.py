"""Distances by other choices of k, p and space, on digits."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr

from scotoma.papers.item import SUMMARY
from scotoma.papers.zhang2019 import choices
from scotoma.papers.zhang2019.choices import CHOICES, COUNTS, Choice, Choices
from scotoma.report.figures import draw

LIMIT = 40


class DigitsChoices(Choices):
    """The digits' network."""

    models = ("digits-pgd",)


def test_each_choice_is_that_of_a_plain_search(context, digits, monkeypatch):
    monkeypatch.setattr(choices, "TRAINING", 5000)
    with context(limit=LIMIT) as here:
        rows, finding = DigitsChoices().measure(here)
        run = here.run("digits-pgd")
        few = run.subset(run.correct_indices(LIMIT))
        smallest = few.records["linf"].to_numpy()
        train, test = run.features(digits.train, None), few.features(digits.test, None, few.indices)
    pixels = [
        split.images(rows).flatten(1).numpy()
        for split, rows in (
            (digits.train, torch.arange(len(digits.train))),
            (digits.test, few.indices),
        )
    ]
    by = {(row["distance"], row["measure"]): row["ours"] for row in rows}
    assert len(by) == 4 * len(CHOICES)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test)]
    expected = {
        "features, k = 5": np.sort(cdist(test, train), 1)[:, :5].mean(1),
        "features, k = 50": np.sort(cdist(test, train), 1)[:, :50].mean(1),
        "features of unit length, k = 1": np.sort(cdist(unit[1], unit[0]), 1)[:, 0],
        "features, k = 5, p = 1": np.sort(cdist(test, train, "cityblock"), 1)[:, :5].mean(1),
        "pixels, k = 5": np.sort(cdist(pixels[1], pixels[0]), 1)[:, :5].mean(1),
    }
    for choice, distance in expected.items():
        value = spearmanr(distance, smallest)[0]
        assert by[choice, "rank correlation"] == pytest.approx(value, abs=2e-3), choice
    raw, of_unit = finding.tables[SUMMARY]
    assert raw["spearman"] == by["features, k = 5", "rank correlation"]
    assert of_unit["n"] == LIMIT
    assert len(finding.tables["by_k"]) == 2 * len(COUNTS)
    assert len(finding.tables["checks"]) == 2
    for figure in finding.figures:
        assert "<svg" in draw(figure, finding)


def test_a_kernel_density_is_small_far_from_all():
    nearest = np.array([[1.0, 1.0], [1.0, 2.0], [3.0, 3.0]])
    density = Choice("features", 2, kernel=True).measure(nearest)
    assert np.all(np.diff(density) > 0)
    assert density[0] == pytest.approx(-np.log(2 * np.exp(-0.5 / np.median(nearest) ** 2)))


def test_with_umap_its_plane_is_measured_too(context, monkeypatch):
    class Plane:
        """The first two pixels of the middle, in place of what UMAP fits."""

        def __init__(self, random_state: int, n_jobs: int):
            assert n_jobs == 1, "more threads make UMAP's plane one of chance"

        def fit_transform(self, pixels: np.ndarray) -> np.ndarray:
            return pixels[:, 34:36]

        transform = fit_transform

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Plane))
    monkeypatch.setattr(choices, "find_spec", lambda name: name == "umap" or None)
    with context(limit=20) as here:
        rows, finding = DigitsChoices().measure(here)
    (row,) = [
        row
        for row in rows
        if row["measure"] == "rank correlation" and row["distance"] == f"{choices.PLANE}, k = 5"
    ]
    assert row["n"] == 20
    assert not any("umap" in note for note in finding.notes)
