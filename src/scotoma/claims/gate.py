"""The gate: an audit passes its rules, fails them, or leaves them undecided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scotoma.claims.rules import DROP, Decision, Result, Rule, apply, parse
from scotoma.execution.records import beyond
from scotoma.results.comparison.audits import pair, read_audit
from scotoma.results.report import Report, describe_claim
from scotoma.utils.stats import Estimate, paired_difference

EXIT: dict[Result, int] = {"passed": 0, "failed": 1, "undecided": 3}


@dataclass(frozen=True)
class Gate:
    """What the rules say of an audit: one decision a rule."""

    report: Report
    decisions: tuple[Decision, ...]

    @property
    def result(self) -> Result:
        """Failed if a rule fails or the evidence contradicts itself, else undecided if one is."""
        results = {decision.result for decision in self.decisions}
        if "failed" in results or self.report.errors:
            return "failed"
        return "undecided" if "undecided" in results else "passed"

    @property
    def title(self) -> str:
        """What was audited, in a line."""
        return describe_claim(self.report.claim)


def gate(report: Report, rules: Sequence[Rule] = (), baseline: Path | None = None) -> Gate:
    """Apply rules to a finished audit; without rules no probe's verdict may be broken.

    `baseline` is the run folder of another audit of the same data and threat.

    Raises:
        InputError: a rule names what the audit does not have, or the baseline cannot be compared.
    """
    rules = rules or [parse(f"{finding.probe} != broken") for finding in report.findings]
    drop = None
    if any(rule.number == DROP for rule in rules) and baseline:
        drop = drop_against(report, baseline)
    return Gate(report, tuple(apply(rule, report, drop) for rule in rules))


def drop_against(report: Report, baseline: Path) -> Estimate:
    """Return the robust accuracy of the baseline less that of an audit, on the images of both.

    Raises:
        InputError: data or threat differ, or no image was audited in both.
    """
    audits = pair([read_audit(baseline), read_audit(report.folder)])
    norm, eps = audits.threat.norm, audits.threat.eps
    old, new = (beyond(audit.sizes(norm), eps) for audit in audits)
    return paired_difference(old, new)
