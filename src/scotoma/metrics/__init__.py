"""Measurements of features, gradients and attributions, without files, devices or probes.

>>> import torch
>>> import scotoma
>>> maps = torch.zeros(2, 1, 4, 4)
>>> maps[0, 0, 0, 0], maps[1] = 1.0, 1.0
>>> scotoma.metrics.gini(maps).tolist()
[0.9375, 0.0]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scotoma.metrics.class_divergence import divergence as divergence
    from scotoma.metrics.class_divergence import kde_comparison as kde_comparison
    from scotoma.metrics.density import class_log_density as class_log_density
    from scotoma.metrics.density import kde_divergence as kde_divergence
    from scotoma.metrics.embedding import embed as embed
    from scotoma.metrics.health import gradient_health as gradient_health
    from scotoma.metrics.inequality import gini as gini
    from scotoma.metrics.inequality import herfindahl as herfindahl
    from scotoma.metrics.inequality import hoover as hoover
    from scotoma.metrics.inequality import lorenz as lorenz
    from scotoma.metrics.inequality import regional_gini as regional_gini
    from scotoma.metrics.inequality import top_share as top_share
    from scotoma.metrics.linearity import loss_linearity as loss_linearity
    from scotoma.metrics.neighbours import nearest_distance as nearest_distance
    from scotoma.metrics.represented import ensemble_agreement as ensemble_agreement
    from scotoma.metrics.represented import feature_margin as feature_margin
    from scotoma.metrics.represented import mean_confidence as mean_confidence
    from scotoma.metrics.represented import private_share as private_share
    from scotoma.metrics.represented import retraining_stability as retraining_stability
    from scotoma.metrics.risk import auroc as auroc
    from scotoma.metrics.subspace import adversarial_directions as adversarial_directions
    from scotoma.metrics.surface import loss_surface as loss_surface
    from scotoma.metrics.two_sample import classifier_comparison as classifier_comparison
    from scotoma.metrics.two_sample import knn_comparison as knn_comparison
    from scotoma.metrics.two_sample import knn_divergence as knn_divergence
    from scotoma.metrics.two_sample import two_sample_auc as two_sample_auc

_HOMES = {
    "adversarial_directions": "subspace",
    "auroc": "risk",
    "class_log_density": "density",
    "classifier_comparison": "two_sample",
    "divergence": "class_divergence",
    "embed": "embedding",
    "ensemble_agreement": "represented",
    "feature_margin": "represented",
    "gini": "inequality",
    "gradient_health": "health",
    "herfindahl": "inequality",
    "hoover": "inequality",
    "kde_comparison": "class_divergence",
    "kde_divergence": "density",
    "knn_comparison": "two_sample",
    "knn_divergence": "two_sample",
    "lorenz": "inequality",
    "loss_linearity": "linearity",
    "loss_surface": "surface",
    "mean_confidence": "represented",
    "nearest_distance": "neighbours",
    "private_share": "represented",
    "regional_gini": "inequality",
    "retraining_stability": "represented",
    "top_share": "inequality",
    "two_sample_auc": "two_sample",
}
"""Modules of the public functions."""


def __getattr__(name: str) -> Any:
    # SciPy, scikit-learn and faiss are slow to import: each comes with the function that needs it.
    if name not in _HOMES:
        raise AttributeError(f"module 'scotoma.metrics' has no attribute {name!r}")
    return getattr(importlib.import_module(f"scotoma.metrics.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
