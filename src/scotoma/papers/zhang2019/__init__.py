"""Zhang et al. 2019, measured again, with Carlini and Wagner's attack by default."""

from __future__ import annotations

import polars as pl

from scotoma.execution.run import Run, Transform
from scotoma.papers.item import Context
from scotoma.papers.zhang2019 import published
from scotoma.probes.base import Settings

ATTACK = "cw-linf"


def settings(context: Context) -> Settings:
    """Return settings with the user's attack or the paper's."""
    return Settings(context.attack or ATTACK)


def images(context: Context) -> int:
    """Return the number of correctly classified images that are attacked."""
    return context.limit or published.IMAGES


def attacked(
    context: Context, run: Run, what: str, transform: Transform | None = None, until: float = 0.0
) -> tuple[Run, pl.DataFrame]:
    """Attack images that are classified correctly after a transform; see `Settings.make_attack`."""
    subset = run.subset(run.correct_indices(images(context), transform))
    attack = settings(context).make_attack(run.claim.threat, until)
    return subset, subset.attack(attack, transform, f"  {what}")


def how(context: Context) -> str:
    """Return a sentence on the attack and the images."""
    return (
        f"Attack: {context.attack or ATTACK}, on the first {images(context):,} images of a random "
        "order that the model classifies correctly; the paper's is cw-linf on 2,000. Rates come "
        "with 95% Wilson intervals."
    )
