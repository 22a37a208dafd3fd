"""How far the test set is from the training set (Zhang et al. 2019, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scotoma.metrics.density import kde_divergence
from scotoma.metrics.embedding import ITERATIONS, PERPLEXITY, embed
from scotoma.metrics.resampling import DRAWS, Comparison, average, compare
from scotoma.metrics.two_sample import classifier_comparison, knn_comparison
from scotoma.utils.errors import InputError
from scotoma.utils.progress import Progress, Silent

FEWEST = 20
"""Points of a class that both samples must have."""


@dataclass(frozen=True)
class Divergences:
    """Three measures of how far the test set is from the training set, and the embedding."""

    kl: dict[int, Comparison]
    """Equation 3 of Zhang et al. 2019 in nats by label, for the classes that can be measured."""
    knn_kl: dict[int, Comparison]
    """The K-L divergence in the features by nearest neighbours, in nats by label."""
    auc: Comparison | None
    """Area under the ROC curve of a classifier between both sets; None where `kl` is empty."""
    train_points: np.ndarray
    """Training points in the embedding, (n, 2)."""
    test_points: np.ndarray
    """Test points in the embedding, (m, 2)."""

    @property
    def mean(self) -> Comparison:
        """`kl` averaged over classes, as in Table 1.

        Raises:
            InputError: no class can be measured.
        """
        if not self.kl:
            raise InputError(
                f"no class has {FEWEST} training and {FEWEST} test images whose features differ"
            )
        return average(list(self.kl.values()))


def divergence(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    *,
    plane: tuple[np.ndarray, np.ndarray] | None = None,
    perplexity: float = PERPLEXITY,
    seed: int = 0,
    draws: int = DRAWS,
    progress: Progress | None = None,
) -> Divergences:
    """Measure how far the test set is from the training set, with null distributions.

    The first measure embeds all classes and both sets together in two dimensions by t-SNE
    (`embed`); for each class it integrates a kernel density of the training points and one of the
    test points over a grid (`kde_divergence`). The second compares distances to neighbours in the
    features themselves, class by class (`knn_comparison`). The third is a classifier between both
    sets (`classifier_comparison`). Classes with fewer than 20 points in either set, or without
    spread, are omitted.

    Args:
        train, test: float32 features (n, d) and (m, d).
        train_labels, test_labels: integers (n,) and (m,).
        plane: the embedding of both sets, (n, 2) and (m, 2), where it has been computed before.
        perplexity: perplexity of t-SNE.
        seed: seed of the initialization of t-SNE and of the draws.
        draws: draws behind each standard error and each null (`compare`).
        progress: where to show the progress.

    Raises:
        InputError: features are NaN or infinite.

    Source: Zhang et al. 2019, section 3.2.

    >>> train = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    >>> labels = np.repeat([0, 1], 30)
    >>> same = divergence(train, labels, train + 0.01, labels, draws=4)
    >>> sorted(same.kl), same.train_points.shape
    ([0, 1], (60, 2))
    """
    progress = progress or Silent()
    if plane is None:
        with progress.bar("t-SNE", ITERATIONS) as advance:
            features = np.concatenate([train, test])
            points = embed(features, perplexity=perplexity, seed=seed, advance=advance)
        plane = points[: len(train)], points[len(train) :]
    classes = len(shared_classes(train_labels, test_labels))

    def compare_classes(name: str, train: np.ndarray, test: np.ndarray, measure: Measure):
        with progress.bar(name, classes) as advance:
            return by_class(
                train, train_labels, test, test_labels, measure, seed, advance, draws=draws
            )

    kl = compare_classes("divergence of densities", *plane, kde_comparison)
    if not kl:
        return Divergences({}, {}, None, *plane)
    knn_kl = compare_classes("divergence by neighbours", train, test, knn_comparison)
    with progress.bar("classifier between both sets", draws + 1) as advance:
        auc = classifier_comparison(train, test, seed, draws=draws, advance=advance)
    return Divergences(kl, knn_kl, auc, *plane)


Measure = Callable[..., Comparison | None]
"""A comparison of the training points of a class with its test points: `kde_comparison` and
`knn_comparison`, with a seed and the number of draws."""


def kde_comparison(
    train: np.ndarray,
    test: np.ndarray,
    seed: Sequence[int] = (0,),
    *,
    floor: float | None = None,
    draws: int = DRAWS,
) -> Comparison | None:
    """Return `kde_divergence` from training to test points of a class, with its error and null.

    The embedding is not repeated: error and null are those of the embedded points.

    Args:
        train, test: points in the plane, (n, 2) and (m, 2).
        seed, draws: see `compare`.
        floor: see `kde_divergence`.

    >>> train, test = np.random.default_rng(0).normal(size=(2, 40, 2))
    >>> len(kde_comparison(train, test, draws=5).null)
    5
    """
    points = np.concatenate([train, test])

    def measure(first: np.ndarray, second: np.ndarray) -> float:
        return kde_divergence(points[first], points[second], floor=floor)

    return compare(len(train), len(test), measure, seed, draws)


def by_class(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    measure: Measure,
    seed: int = 0,
    advance: Callable[[int], None] = lambda steps: None,
    draws: int = DRAWS,
) -> dict[int, Comparison]:
    """Return what `measure` gives for the points of each class, without classes where it is None.

    It receives the seed (`seed`, label); `advance` is called with 1 after each class.
    """
    comparisons = {}
    for label in shared_classes(train_labels, test_labels):
        samples = train[train_labels == label], test[test_labels == label]
        comparisons[label] = measure(*samples, (seed, label), draws=draws)
        advance(1)
    return {label: each for label, each in comparisons.items() if each is not None}


def shared_classes(train_labels: np.ndarray, test_labels: np.ndarray) -> list[int]:
    """Return the classes with at least 20 points in both sets, ascending."""
    train, test = (
        dict(zip(*np.unique(labels, return_counts=True), strict=True))
        for labels in (train_labels, test_labels)
    )
    return sorted(int(label) for label in train if min(train[label], test.get(label, 0)) >= FEWEST)
