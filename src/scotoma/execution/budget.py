"""The time limit of an audit."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import nn

from scotoma.utils.errors import InputError

UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600}
FOR_REPORT = 0.05
"""Fraction of the budget reserved for writing the report."""


class OutOfTimeError(Exception):
    """The budget is spent. Another run with the same folder continues from what is on disk."""


@dataclass(frozen=True)
class Budget:
    """A time limit in seconds that counts from now; None is no limit.

    >>> Budget.parse("1.5h").seconds
    5400.0
    """

    seconds: float | None = None
    started: float = field(default_factory=time.monotonic, compare=False)

    @classmethod
    def parse(cls, text: str | float) -> Budget:
        """Read "90s", "20m", "1.5h" or a number of seconds. Raises `InputError` for other text."""
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*(s|m|min|h)?\s*", str(text))
        seconds = float(match[1]) * UNITS[match[2] or "s"] if match else 0.0
        if not seconds:
            raise InputError(f"budget={text}: want a time such as 90s, 20m or 2h")
        return cls(seconds)

    @property
    def left(self) -> float | None:
        """Seconds left for measuring, negative once they are spent."""
        if self.seconds is None:
            return None
        return self.started + self.seconds * (1 - FOR_REPORT) - time.monotonic()

    def check(self) -> None:
        """Raise `OutOfTimeError` if no time is left."""
        if self.left is not None and self.left <= 0:
            raise OutOfTimeError

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """`check` before every forward pass of a model, so that even a running attack ends."""
        if self.seconds is None:
            yield
            return
        hook = module.register_forward_pre_hook(lambda *_: self.check())
        try:
            yield
        finally:
            hook.remove()


def spoken(seconds: float) -> str:
    """Return a time for a sentence.

    >>> spoken(40), spoken(720), spoken(12600)
    ('40 s', '12 min', '3.5 h')
    """
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
