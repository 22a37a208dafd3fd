"""Zhang et al. 2019, measured again. The attack is Carlini and Wagner's unless another is asked for."""

from __future__ import annotations

from scotoma.papers.item import Context
from scotoma.papers.zhang2019 import published
from scotoma.probes.base import Settings

ATTACK = "cw-linf"


def settings(context: Context) -> Settings:
    """The attack that was asked for, or the paper's."""
    return Settings(context.attack or ATTACK)


def images(context: Context) -> int:
    """How many correctly classified images are attacked."""
    return context.limit or published.IMAGES


def how(context: Context) -> str:
    """The attack and the images in a sentence for the report."""
    return (
        f"Attack: {context.attack or ATTACK}, on the first {images(context):,} images of a random order that the model classifies "
        "correctly; the paper's is cw-linf on 2,000. Rates come with 95% Wilson intervals."
    )
