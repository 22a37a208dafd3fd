"""Probes in turn, within a budget on more and more images, the cheap ones first."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scotoma.attacks.strong import SEARCHES
from scotoma.execution.budget import OutOfTimeError, spoken
from scotoma.execution.effort import LEAST
from scotoma.execution.ranks import ranks
from scotoma.execution.run import Run
from scotoma.execution.sampling import FIRST, stages
from scotoma.results.finding import Finding
from scotoma.results.ledger import Ledger
from scotoma.utils.errors import InputError
from scotoma.utils.files import write_whole
from scotoma.utils.text import counted

if TYPE_CHECKING:
    from scotoma.probes.base import Conclusion, Probe, Settings

CHEAP_FIRST = (
    "robustness",
    "inequality",
    "masking",
    "generated",
    "transfer",
    "distance",
    "blindspots",
    "norms",
    "divergence",
)
"""Order of probes before any is timed. The other probes use the records of `robustness`;
`divergence` compares whole data sets, however few images are attacked."""

EARLY, EVERY = 200, 5
"""Number of images from which a watched audit begins with every fifth image of the first work unit.
The rest of that unit follows, so that all probes report early."""


class Stage(NamedTuple):
    """Some of the images of an audit, and what all probes do with them."""

    run: Run
    probes: Mapping[str, Probe]
    settings: Settings


@dataclass(frozen=True)
class Outcome:
    """The evidence of an audit: what each probe measured, in the order of the report.

    Args:
        run: the run on all audited images.
        reports: for each probe that measured, its report and the run on the images that it reached.
        stopped: whether the user stopped the audit.
        failed: what went wrong in a probe, by its name; the others are not affected.
    """

    probes: Mapping[str, Probe]
    run: Run
    reports: dict[str, tuple[Conclusion, Run]] = field(default_factory=dict)
    stopped: bool = False
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Number of images of the whole audit."""
        return len(self.run.indices)

    @property
    def reached(self) -> dict[str, int]:
        """Number of images that each probe reached."""
        runs = {name: run for name, (_, run) in self.reports.items()}
        return {name: len(runs[name].indices) if name in runs else 0 for name in self.probes}

    def findings(self, ledger: Ledger) -> list[Finding]:
        """Draw all findings from one ledger; one that is not on all images says so in a note."""
        findings = []
        for name, probe in self.probes.items():
            rule = "a verdict once there is time to measure"
            headline = f"Not reached {self._limit}; the same command continues from here."
            finding = Finding(name, probe.question, "undecided", rule, headline)
            if name in self.reports:
                with self._surviving(name):
                    finding = self._finding(name, ledger)
            if name in self.failed:
                rule, headline = "a verdict once the probe has measured", f"{self.failed[name]}."
                finding = Finding(name, probe.question, "undecided", rule, headline)
            findings.append(finding)
        return findings

    def _finding(self, name: str, ledger: Ledger) -> Finding:
        report, part = self.reports[name]
        # what a first look measured is not among the run's own records
        evidence = ledger if part.collection is self.run.collection else part.ledger
        finding, n = report(evidence.on(part.indices.numpy())), len(part.indices)
        if n == self.images:
            return finding
        note = (
            f"Measured on {n:,} of {self.images:,} images, drawn at random, {self._limit}; the "
            "intervals are wide accordingly. The same command continues from here."
        )
        return replace(finding, notes=(note, *finding.notes))

    @property
    def _limit(self) -> str:
        if self.stopped:
            return "before the audit was stopped"
        return f"within the budget of {spoken(self.run.budget.seconds or 0)}"

    @property
    def errors(self) -> list[str]:
        """A sentence on each probe that failed."""
        return [
            f"The probe {name} failed ({error}); {_trace(self.run, name)} has the details. The "
            "other probes are not affected."
            for name, error in self.failed.items()
        ]

    @contextmanager
    def _surviving(self, name: str) -> Iterator[None]:
        """Record an error of a probe and continue; several processes end together instead."""
        try:
            yield
        except (InputError, OutOfTimeError, OSError):
            raise
        except Exception as error:
            if ranks().world > 1:
                raise
            self.failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
            write_whole(_trace(self.run, name), traceback.format_exc().encode())

    @property
    def whole(self) -> bool:
        """Whether every probe reached every audited image, or failed."""
        return all(n == self.images or name in self.failed for name, n in self.reached.items())

    def shortfall(self) -> str:
        """Return a sentence on the images that were reached."""
        names: dict[int, list[str]] = {}
        for name, n in self.reached.items():
            names.setdefault(n, []).append(name)
        reached = "; ".join(
            f"{n:,} by {', '.join(names[n]) if len(names) > 1 else 'every probe'}"
            for n in sorted(names, reverse=True)
        )
        cause = f"The budget of {spoken(self.run.budget.seconds or 0)} ended"
        cause = "The audit was stopped" if self.stopped else cause
        return (
            f"{cause} before the audit was complete. Images (of {self.images:,}) reached: "
            f"{reached}. The same command continues from there."
        )


def measure(probes: Mapping[str, Probe], run: Run, settings: Settings) -> Outcome:
    """Let each probe measure all audited images, or as many as the budget allows.

    Within a budget all probes measure the first 50 images, then 250, and so on
    (`sampling.stages`), in order of the time that they took before. When the time ends, or the user
    stops the audit, the evidence of each probe is that on the images reached. A long audit
    without a budget also begins with 50 images if somebody watches. Before that, a watched audit
    takes a first look at 10 images (`Probe.first_look`), whose records count only if the audit gets
    no further. A probe that fails does not stop the others.

    Raises:
        KeyboardInterrupt: the audit was stopped before any probe had measured.
    """
    outcome = Outcome(probes, run)
    try:
        with suppress(OutOfTimeError), run.watched():
            _measure(outcome, settings)
    except KeyboardInterrupt:
        if not outcome.reports or ranks().world > 1:
            raise
        outcome = replace(outcome, stopped=True)
    for _, part in outcome.reports.values():
        if part.collection is not run.collection:
            run.collection.adopt(part.collection)
    return outcome


def _measure(outcome: Outcome, settings: Settings) -> None:
    """Fill in each probe's report and the run on its images, stage by stage."""
    probes, run, reports = outcome.probes, outcome.run, outcome.reports
    limited, stages = run.budget.seconds is not None, _stages(run, probes, settings)
    order = sorted(probes, key=_usual) if limited or len(stages) > 1 else list(probes)
    with run.progress.bar("probes", len(probes) * len(stages)) as advance:
        for stage in stages:
            part, seconds = stage.run, {}
            for name in [name for name in order if name not in outcome.failed]:
                began = time.monotonic()
                with outcome._surviving(name):
                    conclusion = stage.probes[name].measure(run.claim, part, stage.settings)
                    if not callable(conclusion):
                        kind = type(conclusion).__name__
                        raise TypeError(f"probe {name}: measure returned a {kind}, not a function")
                    reports[name] = conclusion, part
                seconds[name] = time.monotonic() - began
                if run.progress.visible and name in reports:
                    run.progress.keep(_so_far(name, *reports[name], seconds[name]))
                advance(1)
            if limited:
                order.sort(key=lambda name: seconds.get(name, 0.0))


def _stages(run: Run, probes: Mapping[str, Probe], settings: Settings) -> list[Stage]:
    """Return what probes do in turn; the last stage has all images."""
    total, watched = len(run.indices), run.progress.visible and len(run.indices) >= EARLY
    ends = [total] if run.budget.seconds is None else stages(total)
    if watched and ends[0] > FIRST:
        ends = [FIRST, *ends]
    parts = [run if n == total else run.subset(run.indices[:n]) for n in ends]
    looks = [_first_look(run, probes, settings)] if watched else []
    return [*looks, *(Stage(part, probes, settings) for part in parts)]


def _first_look(run: Run, probes: Mapping[str, Probe], settings: Settings) -> Stage:
    part = run.apart().subset(run.indices[:FIRST:EVERY])
    if settings.attack == "strong" and settings.plan.clean:  # its search without what follows
        settings = replace(settings, attack=SEARCHES[run.claim.threat.norm].id)
    looks = {name: probe.first_look() for name, probe in probes.items()}
    return Stage(part, looks, replace(settings, share=LEAST))


def _so_far(name: str, report: Conclusion, run: Run, seconds: float) -> str:
    """Return a line on what a probe says by now; later attacks may find more."""
    result = ""
    with suppress(Exception):  # the report will say what went wrong
        finding = report(run.ledger.on(run.indices.numpy()))
        result = f": {finding.verdict} so far. {finding.headline}"
    return f"{name}, {counted(len(run.indices), 'image')} in {spoken(seconds)}{result}"


def _usual(name: str) -> int:
    return CHEAP_FIRST.index(name) if name in CHEAP_FIRST else len(CHEAP_FIRST)


def _trace(run: Run, name: str) -> Path:
    return run.store.folder / "errors" / f"{name}.txt"
