"""Tramer et al. 2018, measured again: ensemble adversarial training, and what one step hides."""

from __future__ import annotations

from scotoma.execution.run import Run
from scotoma.papers.item import Context

IMAGES = 1000
"""Test images that an item attacks. The paper's ImageNet tables have 10,000; the number in its
MNIST tables is unknown."""


def drawn(context: Context, model: str) -> Run:
    """Return a model's run on random test images, the same for all models of the data."""
    return context.drawn(model, context.limit or IMAGES)


def how(context: Context, n: int) -> str:
    """Return a sentence on the images."""
    return (
        f"{n:,} test images drawn at random (seed {context.seed}), the same for every model. As in "
        "the paper, errors are over all of them: an image that a model misclassifies without an "
        "attack is an error under every attack. Intervals are 95% Wilson intervals."
    )
