"""How many passes a slow model is given: a share of the full number, decided once a run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor

from scotoma.execution.run import Run
from scotoma.models.black_box import is_black_box

QUICK = 0.01
"""Seconds of a pass with its gradient for which the passes of the probes were chosen. Networks of
28x28 and 32x32 images take 1 to 5 ms on one core of a CPU."""
LEAST = 1 / 16
"""Smallest share of the passes: with fewer the attacks of most probes only begin."""
TIMED = 32
"""Most images of the batch that is timed, which an audit attacks together."""
REPEATS = 2


class Pass(NamedTuple):
    """Seconds of a pass of the model, each image of a batch."""

    wall: float
    work: float
    """of the processors of a CPU, divided by the threads: other programs do not change it"""


@dataclass(frozen=True)
class Effort:
    """The share of their passes that probes take, a power of two.

    Args:
        share: 1 is all of them. A run stores this number alone, without noise of the clock.

    >>> Effort(0.25).of(1000, least=300), Effort(0.25).of(100, least=300)
    (300, 100)
    """

    share: float = 1.0

    @classmethod
    def for_pass(cls, seconds: float) -> Effort:
        """Return the effort for a model whose pass with its gradient takes so long.

        Only the nearest power of two counts, so that noise of the clock hardly changes it.

        >>> Effort.for_pass(0.005).share, Effort.for_pass(0.04).share
        (1.0, 0.25)
        """
        halvings = max(0, round(math.log2(max(seconds, 1e-9) / QUICK)))
        return cls(max(LEAST, 0.5**halvings))

    @property
    def whole(self) -> bool:
        """Whether probes take all passes."""
        return self.share == 1.0

    def of(self, full: int, least: int) -> int:
        """Return this share of a number, but at least `least` of it."""
        return min(full, max(least, round(full * self.share)))

    def note(self, scaled: Sequence[str]) -> str:
        """Return what was scaled and why, for a report.

        >>> Effort(0.25).note(["250 of 1,000 queries"])[:71]
        'Scaled, because a pass with its gradient takes about 40 ms: 250 of 1,00'
        """
        about = "about" if self.share > LEAST else "at least about"
        return (
            f"Scaled, because a pass with its gradient takes {about} {1000 * QUICK / self.share:g} "
            f"ms: {'; '.join(scaled)}. --thorough takes all passes (thorough=True in Python)."
        )


WHOLE = Effort()


class Least(NamedTuple):
    """How far an option of a probe may be scaled down."""

    value: int
    words: str
    """what the option counts"""
    full: int | None = None
    """its full number, where the option is None by default"""


def scaled(
    probe: Any, leasts: Mapping[str, Least], effort: Effort
) -> tuple[dict[str, int], list[str]]:
    """Return smaller values of the options of a probe that have their defaults.

    The texts name them, such as "250 of 1,000 queries of an attack by decisions".
    """
    smaller, texts = {}, []
    for name, least in leasts.items():
        if is_default(probe, name):
            full = getattr(probe, name) if least.full is None else least.full
            if (value := effort.of(full, least.value)) < full:
                smaller[name] = value
                texts.append(f"{value:,} of {full:,} {least.words}")
    return smaller, texts


def is_default(instance: Any, name: str) -> bool:
    """Return whether a field of a dataclass has its default."""
    field = next(each for each in fields(instance) if each.name == name)
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return getattr(instance, name) == default


def find_effort(run: Run, thorough: bool = False) -> Effort:
    """Return the effort of a run, measured once for a model and its data and stored.

    A `thorough` run takes all passes, however slow the model is.
    """
    if thorough:
        return WHOLE

    def compute() -> pl.DataFrame:
        most = min(TIMED, run.batch_size)
        full = run.indices.repeat(-(-most // len(run.indices)))[:most]
        effort = Effort.for_pass(time_pass(run, full, gradient=True).work)
        return pl.DataFrame({"effort": [json.dumps(asdict(effort))]})

    table = run.shared("effort", compute)
    return Effort(**json.loads(table["effort"][0]))


def time_pass(run: Run, indices: Tensor, gradient: bool) -> Pass:
    """Return the time of a pass of these test images together, with its gradient or without."""
    images, _ = run.test_images(indices)
    threads = torch.get_num_threads()
    # the time of a black box or of a GPU is not that of this process
    own = run.device.type == "cpu" and not is_black_box(run.claim.model.module)
    walls, works = [], []
    for _ in range(REPEATS + 1):  # the first warms up
        began, worked = time.perf_counter(), time.process_time()
        with torch.set_grad_enabled(gradient), run.seeded():
            batch = images.clone().requires_grad_(gradient)
            logits = run.model(batch)
            if gradient and logits.requires_grad:
                torch.autograd.grad(logits.sum(), batch, allow_unused=True)
            float(logits.detach().sum())  # waits for a GPU
        walls.append((time.perf_counter() - began) / len(indices))
        works.append((time.process_time() - worked) / threads / len(indices))
    return Pass(min(walls[1:]), min((works if own else walls)[1:]))
