"""What the items share: the same six models, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from scotoma.papers.item import Context
from scotoma.papers.schott2019 import MODELS

Found = TypeVar("Found")


class Study:
    """An item about the paper's models."""

    title: str
    standing: dict[str, str] = MODELS
    """The reference models, by the paper's names."""

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.standing.values())

    def of_each(
        self, context: Context, measure: Callable[[Context, str], Found]
    ) -> dict[str, Found]:
        """What `measure` finds of each reference model, by the paper's names."""
        found: dict[str, Found] = {}
        with context.progress.bar(self.title, len(self.standing)) as advance:
            for paper, model in self.standing.items():
                found[paper] = measure(context, model)
                advance(1)
        return found
