"""What verdicts depend on besides their own finding: whether the measurement can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scotoma.results.finding import Finding
from scotoma.utils.stats import Rate, paired_difference

FINDS_ITS_WAY = 0.9
"""Success rate of all attacks above which masked gradients hide little."""
WITHHELD = ("holds", "weak")
"""Verdicts that rest on failed attacks; a success counts even if the gradient is masked."""
UNTOUCHED = ("masking", "divergence")
"""Probes whose verdict does not rest on failed attacks."""
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
HIDDEN = (
    "Undecided: {doubt}, and no attack of this audit is shown to get around it (the probe masking "
    "looks closer), so attacks that fail are no evidence. Otherwise the verdict would be {verdict}."
)


def circumvented(
    success: Rate, own: np.ndarray, exact: np.ndarray, *, mechanisms: bool = True
) -> bool:
    """Return whether an audit got around what hides the model's gradient.

    Either nearly all images are fooled, or other gradients fool more images than the exact one.

    Args:
        success: success rate of all attacks.
        own: whether the audit's attack, adapted to the model, fools each image, bool (n,).
        exact: whether attacks along the exact gradient do, bool (n,).
        mechanisms: whether the look at the model named what hides its gradient.

    >>> from scotoma.utils.stats import rate
    >>> fooled = np.arange(50) < 30
    >>> circumvented(rate(fooled), fooled, np.zeros(50, bool))
    True
    """
    gained = paired_difference(own, exact)
    return success.low > FINDS_ITS_WAY or (mechanisms and gained.low > 0)


def withheld(findings: Sequence[Finding], attack: str = "", doubt: str = "") -> list[Finding]:
    """Return the findings, undecided where they rest on gradients that mislead attacks.

    Args:
        findings: those of an audit.
        attack: name of the audit attack.
        doubt: why the gradient that it follows may mislead, in words; "" if there is no reason.

    >>> masking = Finding("masking", "", "broken", "", "", {"masked": True, "circumvented": False})
    >>> both = withheld([Finding("robustness", "", "holds", "", ""), masking])
    >>> [finding.verdict for finding in both]
    ['undecided', 'broken']
    """
    if not blind(findings, doubt):
        return list(findings)
    reason = REASON if not doubt else HIDDEN if attack == "strong" else DOUBTED
    results = []
    for finding in findings:
        if finding.probe not in UNTOUCHED and finding.verdict in WITHHELD:
            note = reason.format(verdict=finding.verdict, attack=attack, doubt=doubt)
            finding = replace(finding, verdict="undecided", notes=(note, *finding.notes))
        results.append(finding)
    return results


def blind(findings: Sequence[Finding], doubt: str = "") -> bool:
    """Return whether the gradient is masked, or in `doubt`, and no attack got around it."""
    numbers = {finding.probe: finding.numbers for finding in findings}
    evidence = numbers.get("masking") or numbers.get("robustness") or {}
    return not evidence.get("circumvented") and bool(doubt or evidence.get("masked"))
