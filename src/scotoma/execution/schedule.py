"""Probes in turn, within a budget on more and more images, the cheap ones first."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scotoma.claim import Claim
from scotoma.execution.budget import Budget, OutOfTimeError, spoken
from scotoma.execution.run import Run
from scotoma.execution.sampling import stages
from scotoma.results.finding import Finding
from scotoma.results.ledger import Ledger

if TYPE_CHECKING:
    from scotoma.probes.base import Conclusion, Probe, Settings

CHEAP_FIRST = (
    "robustness",
    "distance",
    "divergence",
    "inequality",
    "transfer",
    "masking",
    "blindspots",
    "generated",
    "norms",
)
"""Order of probes before any was timed; `distance` uses the records of `robustness`."""


@dataclass(frozen=True)
class Outcome:
    """The evidence of an audit: what each probe measured, in the order of the report.

    Args:
        probes: all probes by name.
        run: the run on all audited images.
        reports: for each probe that measured, its report and the run on the images that it reached.
    """

    probes: Mapping[str, Probe]
    run: Run
    reports: Mapping[str, tuple[Conclusion, Run]]

    @property
    def images(self) -> int:
        """Number of images of the whole audit."""
        return len(self.run.indices)

    @property
    def reached(self) -> dict[str, int]:
        """Number of images that each probe reached."""
        reports = self.reports
        return {
            name: len(reports[name][1].indices) if name in reports else 0 for name in self.probes
        }

    def findings(self, ledger: Ledger) -> list[Finding]:
        """Draw all findings from one ledger; one that is not on all images says so in a note."""
        budget, findings = spoken(self.run.budget.seconds or 0), []
        for name, n in self.reached.items():
            if name not in self.reports:
                findings.append(_not_reached(name, self.probes[name], budget))
                continue
            report, part = self.reports[name]
            finding = report(ledger.on(part.indices.numpy()))
            if n < self.images:
                note = (
                    f"Measured on {n:,} of {self.images:,} images, drawn at random, within the "
                    f"budget of {budget}; the intervals are wide accordingly. The same command "
                    "continues from here."
                )
                finding = replace(finding, notes=(note, *finding.notes))
            findings.append(finding)
        return findings

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


def measure(probes: Mapping[str, Probe], claim: Claim, run: Run, settings: Settings) -> Outcome:
    """Let each probe measure all audited images, or as many as the budget allows.

    Within a budget all probes measure the first 50 images, then 250, and so on
    (`sampling.stages`), in order of the time that they took before. When the time ends, the
    evidence of each probe is that on the images reached.

    Args:
        probes: the probes by name.
        claim: the claim to measure.
        run: the run, with its budget.
        settings: the attack and its gradient.
    """
    reports: dict[str, tuple[Conclusion, Run]] = {}
    with suppress(OutOfTimeError), run.watched():
        for name, report, part in _stages(probes, claim, run, settings):
            reports[name] = report, part
    return Outcome(probes, run, reports)


def _stages(
    probes: Mapping[str, Probe], claim: Claim, run: Run, settings: Settings
) -> Iterator[tuple[str, Conclusion, Run]]:
    """Yield each probe's name, its report and the run on the images of each stage."""
    limited, total = run.budget.seconds is not None, len(run.indices)
    ends = stages(total) if limited else [total]
    order = sorted(probes, key=_usual) if limited else list(probes)
    with run.progress.bar("probes", len(probes) * len(ends)) as advance:
        for n in ends:
            part, seconds = run if n == total else run.subset(run.indices[:n]), {}
            for name in order:
                began = time.monotonic()
                conclusion = probes[name].measure(claim, part, settings)
                if not callable(conclusion):
                    kind = type(conclusion).__name__
                    raise TypeError(f"probe {name}: measure returned a {kind}, not a function")
                yield name, conclusion, part
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
