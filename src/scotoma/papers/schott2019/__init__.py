"""Schott et al. 2019, measured again: six models of MNIST in three norms, and what no attack shows."""

from __future__ import annotations

from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled
from scotoma.papers.item import Context

IMAGES = 1000
"""Test images that an item attacks, as many as the paper's curves are of."""

MODELS = {
    "CNN": "mnist-cnn",
    "Binary CNN": "mnist-binary-cnn",
    "Nearest neighbour": "mnist-nearest-neighbour",
    "Madry et al.": "mnist-pgd",
    "Binary ABS": "mnist-binary-abs",
    "ABS": "mnist-abs",
}
"""The reference model that stands for each of the paper's, in the order of its table."""


def drawn(context: Context, model: str, n: int = IMAGES) -> Run:
    """A model's run on test images drawn at random, the same ones for all models."""
    run = context.run(model)
    return run.subset(
        shuffled(len(run.claim.data.test), run.seed)[: min(context.limit or n, n)].sort().values
    )
