"""Audits after harmless changes and in other norms, where all of them were measured there."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from scotoma.execution.records import beyond
from scotoma.results.comparison import pairs
from scotoma.results.comparison.audits import Audits
from scotoma.results.finding import Bars, Finding, Row, columns
from scotoma.transforms import TRANSFORMS
from scotoma.transforms.control import contrast
from scotoma.utils.stats import rate
from scotoma.utils.text import counted, norm_name

UNEQUAL = (
    "The audits ran different attacks there ({where}): an audit that tried more attacks can only "
    "show less robustness, so differences there may be due to effort."
)


def after_transforms(audits: Audits) -> Finding | None:
    """Return the finding on transforms that all audits attacked; None if there is none."""
    norm, eps = audits.threat.norm, audits.threat.eps
    measures, table, unequal = [], [], []
    for name in audits.transforms():
        transform = named_transform(name)
        label, budget = str(transform or name), contrast(transform) * eps
        clean = [audit.correct(name) for audit in audits]
        robust = [beyond(audit.sizes(norm, name), budget) for audit in audits]
        column: Row = {"transform": label}
        measures.append(pairs.Measure(pairs.CLEAN, clean, False, columns=column))
        measures.append(pairs.Measure(pairs.ROBUST, robust, True, name, column))
        row: Row = {**column, "alpha_eps": budget}
        for audit, correct, withstands in zip(audits, clean, robust, strict=True):
            row |= columns(f"accuracy of {audit.name}", rate(correct))
            row |= columns(f"robust accuracy of {audit.name}", rate(withstands))
        same_attacks = audits.same_attacks(name)
        table.append(row | {"same_attacks": same_attacks})
        unequal += [] if same_attacks else [label]
    if not table:
        return None
    rows = pairs.differences(audits, measures)
    where = f"after {len(table)} harmless change{'s' * (len(table) > 1)}"
    return Finding(
        probe="blindspots",
        question="Which model keeps its robustness after harmless changes?",
        verdict=pairs.verdict(pairs.robust(rows)),
        rule=pairs.ROBUST_RULE,
        headline=_headline(audits, rows, where, lambda row: row["transform"]),
        numbers={"n": audits.n, "transforms": len(table)},
        tables={"rates": table, "differences": rows},
        figures=(
            Bars(
                "transforms",
                "Robust accuracy at alpha·eps after each transform on the same images, with 95% "
                "intervals.",
                table="rates",
                label="transform",
                series={name: f"robust accuracy of {name}" for name in audits.names},
                y_label="robust accuracy",
            ),
        ),
        notes=(
            "Robust accuracy is taken at the scaled budget alpha·eps, where alpha is the contrast "
            "that scale-shift leaves, and 1 for every other transform. Compared are the transforms "
            "under which all audits attacked all of these images.",
            pairs.INTERVALS,
            *([UNEQUAL.format(where="; ".join(unequal))] if unequal else []),
        ),
    )


def other_norms(audits: Audits) -> Finding | None:
    """Return the finding on norms that the `norms` probe of all audits measured; None if none."""
    bounds = [audit.bounds for audit in audits]
    norms = [
        norm
        for norm in bounds[0]
        if norm != audits.threat.norm and all(norm in bound_of for bound_of in bounds)
    ]
    if not norms:
        return None
    measures, table, gaps, apart = [], [], [], []
    for norm in norms:
        gaps += pairs.medians(audits, norm)
        sizes = {bound_of[norm] for bound_of in bounds}
        if len(sizes) > 1:
            apart.append(norm_name(norm))
            continue
        bound = sizes.pop()
        robust = [beyond(audit.sizes(norm), bound) for audit in audits]
        measures.append(pairs.Measure(pairs.ROBUST, robust, columns={"norm": norm, "bound": bound}))
        row: Row = {"norm": norm, "bound": bound}
        for audit, withstands in zip(audits, robust, strict=True):
            row |= columns(f"robust accuracy of {audit.name}", rate(withstands))
        table.append(row)
    rows = pairs.differences(audits, measures)
    norm_names = " and ".join(map(norm_name, norms))
    same_attacks = audits.same_attacks()
    return Finding(
        probe="norms",
        question="Which model is more robust in other norms?",
        verdict=pairs.verdict(rows),
        rule=pairs.RULE,
        headline=_headline(audits, rows, f"in {norm_names}", lambda row: norm_name(row["norm"])),
        numbers={"n": audits.n},
        tables={"rates": table, "differences": rows, "medians": gaps},
        notes=(
            "Compared are the norms that the norms probe of all audits measured, at its bounds.",
            pairs.INTERVALS,
            pairs.MEDIANS,
            *([f"No rates in {', '.join(apart)}: the bounds differ."] if apart else []),
            *([] if same_attacks else [UNEQUAL.format(where="on the test set itself")]),
        ),
    )


def named_transform(name: str) -> Any:
    """Return the transform of a name in records; None if it is not one of this version.

    >>> named_transform("ScaleShift(alpha=0.9, beta=0.05)"), named_transform("Other(2)")
    (ScaleShift(alpha=0.9, beta=0.05), None)
    """
    try:
        call = ast.parse(name, mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
            return None
        settings = {each.arg or "": ast.literal_eval(each.value) for each in call.keywords}
        return TRANSFORMS.attribute(call.func.id)(**settings)
    except (SyntaxError, ValueError, TypeError, AttributeError):
        return None


def _headline(audits: Audits, rows: list[Row], where: str, place: Callable[[Row], str]) -> str:
    compared, clear = pairs.robust(rows), pairs.decided(pairs.robust(rows))
    if not clear:
        return f"On {counted(audits.n, 'image')} no model is shown to be more robust {where}."
    wins = {name: [row for row in clear if row["ahead"] == name] for name in audits.names}
    parts = [
        f"{name} is ahead in {len(won)} of {len(compared)} comparisons "
        f"({', '.join(dict.fromkeys(map(place, won)))})"
        for name, won in wins.items()
        if won
    ]
    return f"Robust accuracy {where}, on the same {counted(audits.n, 'image')}: {'; '.join(parts)}."
