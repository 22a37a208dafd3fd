"""The sentence that opens a report: what holds, what breaks, and the single worst number."""

from __future__ import annotations

from collections.abc import Sequence

from scotoma.results.finding import Finding

ORDER = {"broken": "breaks", "weak": "is weak", "undecided": "is undecided", "holds": "holds"}
"""Verdicts on a claim, the worst first, as a sentence says them."""


def summarise(findings: Sequence[Finding]) -> str:
    """Return one sentence on all findings of an audit.

    The worst number is the highest rate among the findings with the worst verdict that have one.

    >>> weak = Finding("robustness", "How robust?", "weak", "", "", worst=(0.136, "are fooled"))
    >>> print(summarise([weak, Finding("masking", "Masked?", "holds", "", "")]).replace(";", "\\n"))
    The claim is weak in 1 of 2 probes (robustness) and holds in 1 (masking)
     the worst number is that 13.6% are fooled (robustness).
    """
    parts = []
    for verdict, words in ORDER.items():
        names = [finding.probe for finding in findings if finding.verdict == verdict]
        if names:
            total = "" if parts else f" of {len(findings)} probe{'s' * (len(findings) > 1)}"
            parts.append(f"{words} in {len(names)}{total} ({', '.join(names)})")
    if not parts:
        return "No probe applies to this claim."
    sentence = f"The claim {' and '.join(filter(None, (', '.join(parts[:-1]), parts[-1])))}"
    for verdict in ORDER:
        rates = [
            (*finding.worst, finding.probe)
            for finding in findings
            if finding.verdict == verdict and finding.worst
        ]
        if rates:
            rate, words, probe = max(rates, key=lambda each: each[0])
            if not rate:
                worst = f"none {words.replace('of correctly', 'of the correctly')}"
            else:
                worst = f"the worst number is that {rate:.1%} {words}"
            return f"{sentence}; {worst} ({probe})."
    return f"{sentence}."
