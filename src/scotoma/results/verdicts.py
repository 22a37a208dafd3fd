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


DOUBTED = (
    "Undecided: {doubt}, and the audit attack, {attack}, follows it, so attacks that fail are no "
    "evidence, and robustness was not measured. The attack strong finds a way around. Otherwise "
    "the verdict would be {verdict}."
)


def withheld(findings: Sequence[Finding], attack: str = "", doubt: str = "") -> list[Finding]:
    """Return the findings, undecided where they rest on gradients that mislead attacks.

    Args:
        findings: those of an audit.
        attack: name of the audit attack.
        doubt: why the gradient that it follows leads nowhere, in words; "" if nothing is known.

    >>> masking = Finding("masking", "", "broken", "", "", {"masked": True, "circumvented": False})
    >>> both = withheld([Finding("robustness", "", "holds", "", ""), masking])
    >>> [finding.verdict for finding in both]
    ['undecided', 'broken']
    """
    hidden = blind(findings, doubt)
    reason = DOUBTED if doubt else REASON
    return [
        replace(
            finding,
            verdict="undecided",
            notes=(
                reason.format(verdict=finding.verdict, attack=attack, doubt=doubt),
                *finding.notes,
            ),
        )
        if hidden and finding.probe not in UNTOUCHED and finding.verdict in WITHHELD
        else finding
        for finding in findings
    ]


def blind(findings: Sequence[Finding], doubt: str = "") -> bool:
    """Return whether the model's gradient is masked and no attack of the audit got around it.

    Args:
        findings: those of the audit.
        doubt: why the gradient that the audit attack follows leads nowhere; "" if it does lead.
    """
    masking = [finding.numbers for finding in findings if finding.probe == "masking"]
    if any(numbers.get("circumvented") for numbers in masking):
        return False
    return bool(doubt) or any(numbers.get("masked") for numbers in masking)
