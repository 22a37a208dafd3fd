"""Probes asked one after another, within a budget on more and more images, the cheap ones first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scotoma.claim import Claim
from scotoma.execution.budget import Budget, OutOfTimeError, spoken
from scotoma.execution.run import Run
from scotoma.execution.sampling import stages
from scotoma.results.finding import Finding

if TYPE_CHECKING:
    from scotoma.probes.base import Probe, Settings

CHEAP_FIRST = (
    "robustness",
    "distance",
    "divergence",
    "inequality",
    "transfer",
    "masking",
    "blindspots",
    "norms",
)
"""Before anything was measured. `distance` takes the records of `robustness`."""


@dataclass(frozen=True)
class Answers:
    """What the probes found, in the order asked, and on how many of the audited images each."""

    findings: list[Finding]
    reached: dict[str, int]
    images: int

    @property
    def whole(self) -> bool:
        """Whether every probe saw every audited image."""
        return all(n == self.images for n in self.reached.values())

    def shortfall(self, budget: Budget) -> str:
        """What was not reached, in a sentence."""
        numbers = sorted(set(self.reached.values()), reverse=True)
        names = {
            n: ", ".join(name for name, reached in self.reached.items() if reached == n)
            for n in numbers
        }
        reached = "; ".join(
            f"{n:,} by {'every probe' if len(numbers) == 1 else names[n]}" for n in numbers
        )
        return (
            f"The budget of {spoken(budget.seconds or 0)} was over before everything was measured. Of {self.images:,} images "
            f"were reached: {reached}. The same command goes on from there."
        )


def ask(
    asked: Mapping[str, Probe],
    claim: Claim,
    run: Run,
    settings: Settings,
    keep: Callable[[Finding], None],
) -> Answers:
    """Ask each probe of all audited images, or of as many as there is time for.

    Within a budget all are asked of the first 50 images, then of 250, and so on (`order.stages`), those first that were quick
    before. When the time is over, each has its finding on the images that it reached, and says so.

    Args:
        asked: the probes by name.
        claim: what they are asked of.
        run: does the work, within its budget.
        settings: the user's.
        keep: is given each finding as soon as it is there; a later one of the same probe replaces it.
    """
    found: dict[str, tuple[Finding, int]] = {}
    try:
        for name, finding, n in _answers(asked, claim, run, settings):
            found[name] = finding, n
            keep(finding)
    except OutOfTimeError:
        pass
    total, budget = len(run.indices), spoken(run.budget.seconds or 0)
    for name, probe in asked.items():
        if name not in found:
            found[name] = _not_reached(name, probe, budget), 0
        elif (n := found[name][1]) < total:
            note = (
                f"Measured on {n:,} of {total:,} images, drawn at random, within the budget of {budget}: the intervals are as wide "
                "as so few images make them. The same command goes on from here."
            )
            finding = found[name][0]
            found[name] = replace(finding, notes=(note, *finding.notes)), n
    return Answers(
        [found[name][0] for name in asked], {name: found[name][1] for name in asked}, total
    )


def _answers(
    asked: Mapping[str, Probe], claim: Claim, run: Run, settings: Settings
) -> Iterator[tuple[str, Finding, int]]:
    """Name, finding, and images of each probe at each stage."""
    limited, total = run.budget.seconds is not None, len(run.indices)
    ends = stages(total) if limited else [total]
    order = sorted(asked, key=_usual) if limited else list(asked)
    with run.progress.bar("probes", len(asked) * len(ends)) as advance:
        for n in ends:
            part, seconds = run if n == total else run.subset(run.indices[:n]), {}
            for name in order:
                began = time.monotonic()
                yield name, asked[name].measure(claim, part, settings), n
                seconds[name] = time.monotonic() - began
                advance(1)
            order.sort(key=seconds.__getitem__)


def _usual(name: str) -> int:
    return CHEAP_FIRST.index(name) if name in CHEAP_FIRST else len(CHEAP_FIRST)


def _not_reached(name: str, probe: Probe, budget: str) -> Finding:
    return Finding(
        name,
        probe.question,
        "not applicable",
        "a verdict as soon as there is time to measure",
        f"Not reached within the budget of {budget}; the same command goes on from here.",
    )
