"""Probes in turn, within a budget on more and more images, the cheap ones first."""

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
"""Order of probes before any was timed; `distance` uses the records of `robustness`."""


@dataclass(frozen=True)
class Outcome:
    """Findings in the order of the probes, and the number of images that each probe reached."""

    findings: list[Finding]
    reached: dict[str, int]
    images: int

    @property
    def whole(self) -> bool:
        """Whether every probe reached every audited image."""
        return all(n == self.images for n in self.reached.values())

    def shortfall(self, budget: Budget) -> str:
        """Return a sentence on the images that were reached."""
        numbers = sorted(set(self.reached.values()), reverse=True)
        names = {
            n: ", ".join(name for name, reached in self.reached.items() if reached == n)
            for n in numbers
        }
        reached = "; ".join(
            f"{n:,} by {'every probe' if len(numbers) == 1 else names[n]}" for n in numbers
        )
        return (
            f"The budget of {spoken(budget.seconds or 0)} ended before the audit was complete. "
            f"Images (of {self.images:,}) reached: {reached}. The same command continues from "
            "there."
        )


def measure(
    probes: Mapping[str, Probe],
    claim: Claim,
    run: Run,
    settings: Settings,
    keep: Callable[[Finding], None],
) -> Outcome:
    """Run each probe on all audited images, or on as many as the budget allows.

    Within a budget all probes measure the first 50 images, then 250, and so on
    (`sampling.stages`), in order of the time that they took before. When the time ends, each
    finding is that on the images reached, with a note.

    Args:
        probes: the probes by name.
        claim: the claim to measure.
        run: the run, with its budget.
        settings: the attack and its gradient.
        keep: called with each finding as soon as it exists; later ones of a probe replace earlier.
    """
    latest: dict[str, tuple[Finding, int]] = {}
    try:
        for name, finding, n in _stages(probes, claim, run, settings):
            latest[name] = finding, n
            keep(finding)
    except OutOfTimeError:
        pass
    total, budget = len(run.indices), spoken(run.budget.seconds or 0)
    for name, probe in probes.items():
        if name not in latest:
            latest[name] = _not_reached(name, probe, budget), 0
        elif (n := latest[name][1]) < total:
            note = (
                f"Measured on {n:,} of {total:,} images, drawn at random, within the budget of "
                f"{budget}; the intervals are wide accordingly. The same command continues from "
                "here."
            )
            finding = latest[name][0]
            latest[name] = replace(finding, notes=(note, *finding.notes)), n
    return Outcome(
        [latest[name][0] for name in probes], {name: latest[name][1] for name in probes}, total
    )


def _stages(
    probes: Mapping[str, Probe], claim: Claim, run: Run, settings: Settings
) -> Iterator[tuple[str, Finding, int]]:
    """Yield name, finding and number of images of each probe at each stage."""
    limited, total = run.budget.seconds is not None, len(run.indices)
    ends = stages(total) if limited else [total]
    order = sorted(probes, key=_usual) if limited else list(probes)
    with run.progress.bar("probes", len(probes) * len(ends)) as advance:
        for n in ends:
            part, seconds = run if n == total else run.subset(run.indices[:n]), {}
            for name in order:
                began = time.monotonic()
                yield name, probes[name].measure(claim, part, settings), n
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
        "a verdict once there is time to measure",
        f"Not reached within the budget of {budget}; the same command continues from here.",
    )
