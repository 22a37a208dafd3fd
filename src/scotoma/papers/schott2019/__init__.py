"""Schott et al. 2019, measured again: six models of MNIST in three norms, and far from the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from scotoma.execution.run import Run
from scotoma.papers.item import Context, Item

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

R = TypeVar("R")


class Study(Item):
    """An item about the paper's models."""

    standing: dict[str, str] = MODELS
    """Reference models by the paper's names."""

    @property
    def models(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(self.standing.values())

    def of_each(self, context: Context, measure: Callable[[Context, str], R]) -> dict[str, R]:
        """Return the results of `measure` by the paper's names of the models."""
        return context.each(self.title, self.standing, lambda model: measure(context, model))


def drawn(context: Context, model: str, n: int = IMAGES) -> Run:
    """Return a model's run on random test images, the same for all models."""
    return context.drawn(model, min(context.limit or n, n))
