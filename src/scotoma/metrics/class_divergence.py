"""How far the test set is from the training set, class by class (Zhang et al. 2019, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scotoma.metrics.density import kde_divergence
from scotoma.metrics.embedding import ITERATIONS, PERPLEXITY, embed
from scotoma.metrics.resampling import DRAWS, Comparison, average, compare
from scotoma.utils.errors import InputError
from scotoma.utils.progress import Progress, Silent

FEWEST = 20
"""Points of a class that both samples must have."""


@dataclass(frozen=True)
class Divergences:
    """Equation 3 of Zhang et al. 2019 for each class, in nats."""

    classes: dict[int, Comparison]
    """By label; without those that could not be measured."""
    train_points: np.ndarray
    """The training points' places in the embedding, (n, 2)."""
    test_points: np.ndarray
    """The test points' places, (m, 2)."""

    @property
    def mean(self) -> Comparison:
        """The average over classes, as in Table 1."""
        return average(list(self.classes.values()))


def divergence(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    perplexity: float = PERPLEXITY,
    floor: float | None = None,
    seed: int = 0,
    draws: int = DRAWS,
    progress: Progress | None = None,
) -> Divergences:
    """Equation 3 of Zhang et al. 2019: the K-L divergence from the training to the test set.

    t-SNE of all classes and both sets together in two dimensions (`embed`), then for each class a Gaussian kernel density of its
    training points and one of its test points, integrated over a grid (`kde_divergence`). Classes with fewer than 20 points in
    either set, or without spread in the plane, are left out.

    Args:
        train_features, test_features: float32 (n, d) and (m, d).
        train_labels, test_labels: integers (n,) and (m,).
        perplexity: of t-SNE.
        floor: as in `kde_divergence`.
        seed: of t-SNE's start and of the draws.
        draws: behind the standard errors and the null (`compare`).
        progress: where to show how far it is.

    Raises:
        InputError: features are NaN or infinite, or no class can be measured.
    """
    progress = progress or Silent()
    with progress.bar("t-SNE", ITERATIONS) as advance:
        features = np.concatenate([train_features, test_features])
        points = embed(features, perplexity=perplexity, seed=seed, advance=advance)
    train, test = points[: len(train_labels)], points[len(train_labels) :]
    shared = shared_classes(train_labels, test_labels)

    def measure(first: np.ndarray, second: np.ndarray, seed: Sequence[int]) -> Comparison | None:
        return kde_comparison(first, second, seed, floor=floor, draws=draws)

    with progress.bar("densities", len(shared)) as advance:
        classes = by_class(train, train_labels, test, test_labels, measure, seed, advance)
    if not classes:
        raise InputError(
            f"no class has {FEWEST} training and {FEWEST} test images whose features differ"
        )
    return Divergences(classes, train, test)


def kde_comparison(
    train: np.ndarray,
    test: np.ndarray,
    seed: Sequence[int] = (0,),
    *,
    floor: float | None = None,
    draws: int = DRAWS,
) -> Comparison | None:
    """`kde_divergence` from the training to the test points of one class, (n, 2) and (m, 2), with its error and null (`compare`).

    The embedding is not made again: error and null are those of the points where it has put them.
    """
    points = np.concatenate([train, test])
    return compare(
        len(train),
        len(test),
        lambda first, second: kde_divergence(points[first], points[second], floor=floor),
        seed,
        draws,
    )


def by_class(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    measure: Callable[[np.ndarray, np.ndarray, Sequence[int]], Comparison | None],
    seed: int = 0,
    advance: Callable[[int], None] = lambda steps: None,
) -> dict[int, Comparison]:
    """What `measure` makes of the training and test points of each class and a seed; without the classes where that is None."""
    found = {}
    for label in shared_classes(train_labels, test_labels):
        found[label] = measure(
            train[train_labels == label], test[test_labels == label], (seed, label)
        )
        advance(1)
    return {label: comparison for label, comparison in found.items() if comparison is not None}


def shared_classes(train_labels: np.ndarray, test_labels: np.ndarray) -> list[int]:
    """The classes with at least 20 points in both sets, ascending."""
    counts = [
        dict(zip(*np.unique(labels, return_counts=True), strict=True))
        for labels in (train_labels, test_labels)
    ]
    return sorted(
        int(label) for label in counts[0] if min(count.get(label, 0) for count in counts) >= FEWEST
    )
