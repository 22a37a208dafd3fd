"""What verdicts depend on besides their own finding: whether the measurement can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scotoma.results.finding import Finding

WITHHELD = ("holds", "weak")
"""Verdicts that rest on attacks that fail; an image that is fooled is fooled, whatever hides."""
UNTOUCHED = ("masking", "divergence")
"""Probes whose verdict does not rest on attacks that fail."""
REASON = (
    "Undecided: something hides the model's gradient (see masking) and no attack of this audit got "
    "around it, so attacks that fail are no evidence, and robustness was not measured. Otherwise "
    "the verdict would be {verdict}."
)


def withheld(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings, undecided where they rest on gradients that mislead attacks.

    >>> masking = Finding("masking", "", "broken", "", "", {"masked": True, "circumvented": False})
    >>> both = withheld([Finding("robustness", "", "holds", "", ""), masking])
    >>> [finding.verdict for finding in both]
    ['undecided', 'broken']
    """
    hidden = blind(findings)
    return [
        replace(
            finding,
            verdict="undecided",
            notes=(REASON.format(verdict=finding.verdict), *finding.notes),
        )
        if hidden and finding.probe not in UNTOUCHED and finding.verdict in WITHHELD
        else finding
        for finding in findings
    ]


def blind(findings: Sequence[Finding]) -> bool:
    """Return whether the model's gradient is masked and no attack of the audit got around it."""
    return any(
        finding.numbers.get("masked") and not finding.numbers.get("circumvented")
        for finding in findings
        if finding.probe == "masking"
    )
