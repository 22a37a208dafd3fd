"""The sentence that opens a report."""

from __future__ import annotations

from scotoma.results.finding import Finding, Verdict
from scotoma.results.summary import summarise


def finding(probe: str, verdict: Verdict, worst: tuple[float, str] | None = None) -> Finding:
    return Finding(probe, "Does it hold?", verdict, "a rule", "It does.", worst=worst)


def test_the_worst_number_comes_from_the_worst_verdict():
    findings = [
        finding("robustness", "weak", (0.9, "are fooled")),
        finding("norms", "broken", (0.5, "are fooled in L2")),
        finding("blindspots", "broken", (0.6, "are fooled in the dark")),
        finding("divergence", "holds"),
        finding("transfer", "not applicable"),
    ]
    assert summarise(findings) == (
        "The claim breaks in 2 of 5 probes (norms, blindspots), is weak in 1 (robustness) and "
        "holds "
        "in 1 (divergence); the worst number is that 60.0% are fooled in the dark (blindspots)."
    )
    assert summarise(findings[:1]) == (
        "The claim is weak in 1 of 1 probe (robustness); the worst number is that 90.0% are fooled "
        "(robustness)."
    )

    nothing = finding("robustness", "holds", (0.0, "of the images are fooled"))
    assert summarise([nothing]) == (
        "The claim holds in 1 of 1 probe (robustness); none of the images are fooled (robustness)."
    )
    nothing = finding("map", "holds", (0.0, "of correctly classified images are fooled"))
    assert "none of the correctly classified images are fooled (map)" in summarise([nothing])


def test_without_a_verdict_or_a_number():
    assert summarise([finding("transfer", "not applicable")]) == "No probe applies to this claim."
    assert summarise([finding("masking", "holds")]) == "The claim holds in 1 of 1 probe (masking)."
