"""Tramer et al. 2018, measured again: ensemble adversarial training, and what adversarial training in a single step hides."""

from __future__ import annotations

from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled
from scotoma.papers.item import Context

IMAGES = 1000
"""Test images that an item attacks. The paper's ImageNet tables have 10,000, how many its MNIST tables have is unknown to us."""


def drawn(context: Context, model: str) -> Run:
    """A model's run on test images drawn at random, the same ones for all models of the data."""
    run = context.run(model)
    return run.subset(
        shuffled(len(run.claim.data.test), run.seed)[: context.limit or IMAGES].sort().values
    )


def how(context: Context, n: int) -> str:
    """The images in a sentence for the report."""
    return (
        f"{n:,} test images drawn at random (seed {context.seed}), the same for every model. Errors are over all of them, as in "
        "the paper: an image that a model has wrong without an attack is an error under every attack. With 95% Wilson intervals."
    )
