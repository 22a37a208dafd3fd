"""How well an image is represented by the training data: scores, larger for better represented.

Carlini, Erlingsson and Papernot 2019, "Distribution density, tails, and outliers in machine
learning", name five: the size of the smallest adversarial perturbation, and the four below. Ngnawe
et al. 2024 predict which images an attack breaks from the margin in a robust network's features.
"""

from __future__ import annotations

import numpy as np
from scipy.special import rel_entr


def mean_confidence(probabilities: np.ndarray) -> np.ndarray:
    """Return the mean over networks of the largest probability, (n,): their "conf".

    Args:
        probabilities: (networks, n, classes).

    >>> mean_confidence(np.array([[[0.9, 0.1]], [[0.3, 0.7]]]))
    array([0.8])
    """
    return probabilities.max(2).mean(0)


def ensemble_agreement(probabilities: np.ndarray) -> np.ndarray:
    """Return minus the mean Jensen-Shannon divergence of pairs of networks, (n,): their "agr".

    Args:
        probabilities: (networks, n, classes), of at least two networks.

    >>> ensemble_agreement(np.array([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])).round(3)
    array([-0.   , -0.693])
    """
    first, second = np.triu_indices(len(probabilities), 1)
    a, b = probabilities[first], probabilities[second]
    middle = (a + b) / 2
    return -(rel_entr(a, middle) + rel_entr(b, middle)).sum(2).mean(0) / 2


def retraining_stability(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return minus the symmetric K-L divergence after training on other data, (n,): their "ret".

    Args:
        before: probabilities of a network, (n, classes), above 0.
        after: those of the network after it was trained on other images of the same distribution.

    >>> probabilities = np.array([[0.5, 0.5]])
    >>> retraining_stability(probabilities, np.array([[0.8, 0.2]])).round(3)
    array([-0.416])
    """
    return -(rel_entr(before, after) + rel_entr(after, before)).sum(1)


def private_share(correct: np.ndarray) -> np.ndarray:
    """Return the share of private networks that classify an image correctly, (n,): their "priv".

    Networks that learn with more noise learn only what many training images have in common.

    Args:
        correct: bool (networks, n), with networks at several levels of noise.

    >>> private_share(np.array([[True, False], [True, True]]))
    array([1. , 0.5])
    """
    return correct.mean(0)


def feature_margin(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the L2 distance to the decision boundary in the last layer's input, (n,).

    It is negative where another class leads.

    Args:
        logits: (n, classes), of a last layer that is dense.
        labels: (n,).
        weights: of the last layer, (classes, features).

    Source: Ngnawe et al. 2024, "Detecting brittle decisions for free".

    >>> feature_margin(np.array([[3.0, 0.0]]), np.array([0]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    array([2.12132034])
    """
    lead = np.take_along_axis(logits, labels[:, None], 1) - logits
    weight_distance = np.linalg.norm(weights[labels][:, None] - weights, axis=2)
    is_label = np.arange(logits.shape[1]) == labels[:, None]
    return np.where(is_label, np.inf, lead / np.where(is_label, 1.0, weight_distance)).min(1)
