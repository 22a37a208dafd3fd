"""Accuracy and robust accuracy of audits beside each other, at eps and at every size."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from scotoma.execution.records import beyond
from scotoma.results.comparison import pairs
from scotoma.results.comparison.audits import Audits
from scotoma.results.finding import Curve, Finding, Row, columns
from scotoma.utils.stats import finite, median, paired_difference, rate
from scotoma.utils.text import counted, norm_name

QUESTION = "Which model is more robust on the same images?"
POINTS = 60


def describe(audits: Audits) -> Finding:
    """Return the finding on accuracy, robust accuracy and medians."""
    norm, eps = audits.threat.norm, audits.threat.eps
    correct = [audit.correct() for audit in audits]
    robust = [beyond(audit.sizes(norm), eps) for audit in audits]
    measures = [pairs.Measure(pairs.CLEAN, correct, False), pairs.Measure(pairs.ROBUST, robust)]
    rows = pairs.differences(audits, measures)
    gaps, size = pairs.medians(audits, norm), f"{norm_name(norm)} perturbation size"
    return Finding(
        probe="robustness",
        question=QUESTION,
        verdict=pairs.verdict(pairs.robust(rows)),
        rule=pairs.ROBUST_RULE,
        headline=_headline(audits, pairs.robust(rows)),
        numbers={"n": audits.n},
        tables={
            "rates": _rates(audits, correct, robust),
            "differences": rows,
            "medians": gaps,
            "verdicts": _verdicts(audits),
            "curve": _curve(audits),
            "difference_at_each_size": _difference_curve(audits),
        },
        figures=(
            Curve(
                "curve",
                "Share of the compared images that are classified correctly under every "
                f"perturbation found, against its {norm_name(norm)} size, with 95% intervals.",
                table="curve",
                x="eps",
                y="robust_accuracy",
                group="audit",
                interval=True,
                x_label=size,
                y_label=pairs.ROBUST,
                marks={"eps": eps},
            ),
            Curve(
                "differences",
                "Difference of the robust accuracies on the same images, with the paired 95% "
                "interval at each size. The intervals are not corrected for the number of sizes.",
                table="difference_at_each_size",
                x="eps",
                y="difference",
                group="pair",
                interval=True,
                x_label=size,
                y_label="difference of robust accuracies",
                marks={"eps": eps},
            ),
        ),
        notes=(
            f"Compared: the {counted(audits.n, 'image')} that all audits attacked. Each counts "
            "with the smallest verified perturbation that any attack of its audit gave. Attacks "
            "give upper bounds of robustness.",
            pairs.INTERVALS,
            pairs.MEDIANS,
        ),
    )


def _headline(audits: Audits, rows: list[Row]) -> str:
    clear = pairs.decided(rows)
    within = f"within {audits.threat.words}"
    if not clear:
        gap = max(rows, key=lambda row: abs(row["difference"]))
        return (
            f"On {counted(audits.n, 'image')} no model is shown to be more robust {within}; the "
            f"largest difference, {gap['first']} less {gap['second']}, is {_points(gap)}."
        )
    gaps = "; ".join(_ahead(row) for row in clear)
    undecided = len(rows) - len(clear)
    are = "is" if undecided == 1 else "are"
    rest = f" {undecided} of {len(rows)} pairs {are} undecided." if undecided else ""
    return (
        f"On the same {counted(audits.n, 'image')} robust accuracy {within} differs: {gaps}.{rest}"
    )


def _ahead(row: Row) -> str:
    if row["ahead"] == row["first"]:
        return f"{row['first']} is {_points(row)} above {row['second']}"
    value, low, high = (-row[f"difference{end}"] for end in ("", "_high", "_low"))
    gap = {"difference": value, "difference_low": low, "difference_high": high}
    return f"{row['second']} is {_points(gap)} above {row['first']}"


def _points(row: Row) -> str:
    value, low, high = (100 * row[f"difference{end}"] for end in ("", "_low", "_high"))
    return f"{value:.1f} points ({low:.1f} to {high:.1f})".replace("-", "−")


def _rates(audits: Audits, correct: list[np.ndarray], robust: list[np.ndarray]) -> list[Row]:
    norm = audits.threat.norm
    return [
        {
            "audit": audit.name,
            **columns("accuracy", rate(clean)),
            **columns("robust_accuracy", rate(withstands)),
            f"median_{norm}": finite(median(audit.sizes(norm)).value),
            "n": audits.n,
            "audited": audit.audited,
            "attacks": len(audit.attacks.get("none", ())),
        }
        for audit, clean, withstands in zip(audits, correct, robust, strict=True)
    ]


def _verdicts(audits: Audits) -> list[Row]:
    """Return a row for each audit: the verdict of each probe, on that audit's own images."""
    verdicts_by_audit = [
        {finding.probe: finding.verdict for finding in audit.report.findings} for audit in audits
    ]
    probes = dict.fromkeys(probe for verdicts in verdicts_by_audit for probe in verdicts)
    return [
        {"audit": audit.name, **{probe: verdicts.get(probe) for probe in probes}}
        for audit, verdicts in zip(audits, verdicts_by_audit, strict=True)
    ]


def _sizes(audits: Audits) -> np.ndarray:
    """Return the sizes of the curves: from 0 to twice eps."""
    most = 2 * audits.threat.eps
    return np.linspace(0, min(1.0, most) if audits.threat.norm == "linf" else most, POINTS + 1)


def _curve(audits: Audits) -> list[Row]:
    sizes = [(audit.name, audit.sizes(audits.threat.norm)) for audit in audits]
    return [
        {
            "audit": name,
            "eps": finite(size),
            **columns("robust_accuracy", rate(beyond(smallest, float(size)))),
        }
        for name, smallest in sizes
        for size in _sizes(audits)
    ]


def _difference_curve(audits: Audits) -> list[Row]:
    sizes = [(audit.name, audit.sizes(audits.threat.norm)) for audit in audits]
    return [
        {
            "pair": f"{first} less {second}",
            "eps": finite(size),
            **columns(
                "difference",
                paired_difference(beyond(a, float(size)), beyond(b, float(size))),
            ),
        }
        for (first, a), (second, b) in combinations(sizes, 2)
        for size in _sizes(audits)
    ]
