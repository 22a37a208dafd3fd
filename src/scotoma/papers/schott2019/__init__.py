"""Schott et al. 2019, measured again: six models of MNIST in three norms, and far from the data."""

from __future__ import annotations

from scotoma.execution.run import Run
from scotoma.papers.item import Context

IMAGES = 1000
"""Test images that an item attacks, as many as in the paper's curves."""

MODELS = {
    "CNN": "mnist-cnn",
    "Binary CNN": "mnist-binary-cnn",
    "Nearest neighbour": "mnist-nearest-neighbour",
    "Madry et al.": "mnist-pgd",
    "Binary ABS": "mnist-binary-abs",
    "ABS": "mnist-abs",
}
"""Reference model for each of the paper's, in the order of its table."""


def drawn(context: Context, model: str, n: int = IMAGES) -> Run:
    """Return a model's run on random test images, the same for all models."""
    return context.drawn(model, min(context.limit or n, n))
