"""A time limit on an audit, in seconds or as people write them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import nn

from scotoma.utils.errors import InputError
from scotoma.utils.progress import Advance, Progress

UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600}
KEPT = 0.05
"""Of the time, for the report."""


class OutOfTimeError(Exception):
    """The time is over. What is on disk stays, and the next run with the same folder goes on from there."""


@dataclass(frozen=True)
class Budget:
    """So much time from now on; None is as much as it takes."""

    seconds: float | None = None
    started: float = field(default_factory=time.monotonic, compare=False)

    @classmethod
    def parse(cls, text: str | float) -> Budget:
        """From "90s", "20m", "1.5h" or a number of seconds. Raises `InputError` for anything else."""
        found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*(s|m|min|h)?\s*", str(text))
        seconds = float(found[1]) * UNITS[found[2] or "s"] if found else 0.0
        if not seconds:
            raise InputError(f"--budget {text}: want a time such as 90s, 20m or 2h")
        return cls(seconds)

    @property
    def left(self) -> float | None:
        """Seconds that remain for measuring; below 0 once they are over."""
        return (
            None
            if self.seconds is None
            else self.started + self.seconds * (1 - KEPT) - time.monotonic()
        )

    def check(self) -> None:
        """Raise `OutOfTimeError` where nothing is left."""
        if self.left is not None and self.left <= 0:
            raise OutOfTimeError

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """`check` before every forward pass of a model, so that an attack ends in the middle."""
        if self.seconds is None:
            yield
            return
        hook = module.register_forward_pre_hook(lambda *_: self.check())
        try:
            yield
        finally:
            hook.remove()


class Watched(Progress):
    """Bars that end what they show when the time is over."""

    def __init__(self, shown: Progress, budget: Budget):
        super().__init__()
        self._shown, self._budget = shown, budget

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Advance]:
        with self._shown.bar(what, total) as advance:
            yield self._then_check(advance)

    def _then_check(self, advance: Callable[[int], None]) -> Advance:
        def both(steps: int) -> None:
            advance(steps)
            self._budget.check()

        return both


def spoken(seconds: float) -> str:
    """A time in a sentence: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
