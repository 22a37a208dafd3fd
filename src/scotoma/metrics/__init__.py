"""Measurements of features, gradients and attributions, without files, devices or probes.

>>> import torch
>>> import scotoma
>>> maps = torch.zeros(2, 1, 4, 4)
>>> maps[0, 0, 0, 0], maps[1] = 1.0, 1.0
>>> [round(value, 4) for value in scotoma.metrics.gini(maps).tolist()]
[0.9375, 0.0]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scotoma.metrics.class_divergence import divergence as divergence
    from scotoma.metrics.density import kde_divergence as kde_divergence
    from scotoma.metrics.health import health as gradient_health
    from scotoma.metrics.inequality import global_gini as gini
    from scotoma.metrics.inequality import lorenz as lorenz
    from scotoma.metrics.inequality import regional_gini as regional_gini
    from scotoma.metrics.neighbours import mean_neighbour_distance as nearest_distance
    from scotoma.metrics.subspace import adversarial_directions as adversarial_directions
    from scotoma.metrics.two_sample import classifier_comparison as classifier_comparison
    from scotoma.metrics.two_sample import knn_comparison as knn_comparison

_HOMES = {
    "adversarial_directions": "subspace:adversarial_directions",
    "classifier_comparison": "two_sample:classifier_comparison",
    "divergence": "class_divergence:divergence",
    "gini": "inequality:global_gini",
    "gradient_health": "health:health",
    "kde_divergence": "density:kde_divergence",
    "knn_comparison": "two_sample:knn_comparison",
    "lorenz": "inequality:lorenz",
    "nearest_distance": "neighbours:mean_neighbour_distance",
    "regional_gini": "inequality:regional_gini",
}
"""Public name to the module and the function behind it."""

__all__ = [
    "adversarial_directions",
    "classifier_comparison",
    "divergence",
    "gini",
    "gradient_health",
    "kde_divergence",
    "knn_comparison",
    "lorenz",
    "nearest_distance",
    "regional_gini",
]


def __getattr__(name: str) -> Any:
    # SciPy, scikit-learn and faiss take long to import: each comes with the measurement that needs it
    if name not in _HOMES:
        raise AttributeError(f"module 'scotoma.metrics' has no attribute {name!r}")
    module, attribute = _HOMES[name].split(":")
    return getattr(importlib.import_module(f"scotoma.metrics.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
