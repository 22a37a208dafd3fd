"""What the masking probe says: its verdict, numbers, tables and figures."""

from __future__ import annotations

import numpy as np
import torch

from scotoma.metrics.subspace import survival
from scotoma.probes.base import columns, percent
from scotoma.probes.masking.checks import OVERSHOOT, TOLERATED, Check
from scotoma.probes.masking.evidence import FLAGS, Evidence
from scotoma.results.finding import Bars, Curve, Figure, Finding, Heatmap, Row, Verdict
from scotoma.utils.stats import Rate, finite, rate
from scotoma.utils.text import norm_name

RULE = (
    "broken (the gradients are masked) if on some check the share of failing images lies above what is tolerated with its 95% "
    f"interval, which is {TOLERATED:.0%}, and {OVERSHOOT:.0%} for single steps and beside the audit's own attack; weak if above a "
    "fifth of that; else holds"
)
LISTED = 12
"""Failing images that a check names."""
FINDS_ITS_WAY = 0.9
"""A success rate of iterated attacks above which masked gradients hide little."""
SEARCHED = {"linf": "Square", "l2": "a walk along the boundary"}
VIEWS = {"wide": "the whole ball", "close": "close to it"}


def finding(question: str, evidence: Evidence) -> Finding:
    """The finding on what was measured."""
    checks = evidence.checks()
    failed = [check for check in checks if not check.passed]
    verdict: Verdict = (
        "broken" if failed else "weak" if any(check.notable for check in checks) else "holds"
    )
    gradients, n = evidence.gradients, len(evidence.index)
    directions = survival(torch.from_numpy(evidence.subspace), max(evidence.orders))
    return Finding(
        probe="masking",
        question=question,
        verdict=verdict,
        rule=RULE,
        headline=_headline(evidence, checks, failed),
        numbers={
            "masked": bool(failed),
            "failed": len(failed),
            "checks": len(checks),
            **columns("loss_ratio", evidence.linearity.ratio),
            **columns("cosine", evidence.linearity.mean_cosine),
            "gradient_norm": _mean(gradients["cross_entropy"].to_numpy()),
            "margin_gradient_norm": _mean(gradients["margin"].to_numpy()),
            **{f"{flag}_gradients": int(gradients[flag].sum()) for flag in FLAGS},
            "n": n,
        },
        tables={
            "checks": [_check(evidence, check) for check in checks],
            "attacks": [
                {"attack": name, **columns("success", rate(fell)), "n": n}
                for name, fell in evidence.fell.items()
            ],
            "eps": [
                {"eps": finite(size), **columns("success", rate(fell)), "n": n}
                for size, fell in evidence.by_size.items()
            ],
            "steps": [
                {"steps": steps, **columns("success", rate(fell)), "n": n}
                for steps, fell in evidence.by_steps.items()
            ],
            "subspace": [
                {"k": k, **columns("share", share), "n": share.n}
                for k, share in enumerate(directions, start=1)
            ],
            **{name: table.drop("index").to_dicts() for name, table in evidence.surfaces.items()},
        },
        figures=_figures(evidence),
        notes=_notes(evidence),
    )


def _check(evidence: Evidence, check: Check) -> Row:
    """A row of the table of checks; `images` are the first test images that fail."""
    failing = evidence.index[check.failing]
    share = Rate(
        *(max(value, 0.0) for value in check.share[:3]), n=check.share.n
    )  # more excused than failing is none failing
    more = f" and {len(failing) - LISTED} more" if len(failing) > LISTED else ""
    return {
        "check": check.name,
        "passed": check.passed,
        "failures": len(failing),
        "excused": 0 if check.excused is None else int(check.excused.sum()),
        "n": len(check.failing),
        **columns("share", share),
        "tolerated": check.tolerated,
        "images": ", ".join(map(str, failing[:LISTED].tolist())) + more,
    }


def _headline(evidence: Evidence, checks: list[Check], failed: list[Check]) -> str:
    found = rate(evidence.fell["iterated"] | evidence.fell["many restarts"])
    if not failed:
        return (
            f"No sign of masked gradients in {len(checks)} checks: where attacks along them fail, the gradients are not to blame. "
            f"Iterated ones succeed on {percent(found)}."
        )
    worst = max(failed, key=lambda check: check.share.low)
    others = f", {len(failed) - 1} more of the {len(checks)} checks fail" if len(failed) > 1 else ""
    meaning = (
        f"Iterated attacks find their way all the same, and succeed on {percent(found)}: single-step attacks say nothing of it."
        if found.low > FINDS_ITS_WAY
        else f"That iterated attacks succeed on only {percent(found)} is no sign of robustness."
    )
    return f'Its gradients mislead attacks: "{worst.name}" is not so for {percent(worst.share)}{others}. {meaning}'


def _figures(evidence: Evidence) -> tuple[Figure, ...]:
    threat = evidence.claim.threat
    kind = "signed " if threat.norm == "linf" else ""
    towards = f", towards the gradient of {evidence.sources[0]}" if evidence.sources else ""
    return (
        Bars(
            "checks",
            "Share of images that fail each check, with 95% intervals; where attacks of equal cost are compared, less those that "
            f"speak for the model. Up to {TOLERATED:.0%} are tolerated, up to {OVERSHOOT:.0%} for single steps and beside the "
            "audit's own attack.",
            table="checks",
            label="check",
            series={"share of images that fail": "share"},
            y_label="share of images",
        ),
        Bars(
            "attacks",
            "Success at the claimed eps of attacks that trust the gradient less and less. Beside an honest gradient none of the "
            "later ones would break much that the iterated ones do not.",
            table="attacks",
            label="attack",
            series={"success": "success"},
            y_label="success rate",
        ),
        Curve(
            "eps",
            "Success of PGD against the size of the ball. It must not fall, and must be total at "
            f"{max(evidence.by_size):g}, where every image is inside.",
            table="eps",
            x="eps",
            y="success",
            interval=True,
            x_label=f"{norm_name(threat.norm)} perturbation size",
            y_label="success rate",
            marks={"claimed eps": threat.eps},
        ),
        Curve(
            "steps",
            "Success at the claimed eps against the number of gradient steps of size eps / steps, from the image itself.",
            table="steps",
            x="steps",
            y="success",
            interval=True,
            x_label="gradient steps",
            y_label="success rate",
        ),
        Curve(
            "subspace",
            "Share of images with at least k orthogonal directions that are adversarial at eps, found by gradient-aligned sets of "
            f"{', '.join(map(str, evidence.orders))} directions (Tramer et al. 2018, Figure 2).",
            table="subspace",
            x="k",
            y="share",
            interval=True,
            x_label="k orthogonal adversarial directions",
            y_label="share of images",
        ),
        *(
            Heatmap(
                name,
                f"The loss around test image {evidence.drawn}, whose single step finds the smallest share of the loss that many "
                f"steps find; {view}. Across: along its {kind}gradient; up: along a {kind}direction orthogonal to that"
                f"{towards}. A masked gradient is steep in the close view and leads nowhere in the wide one.",
                table=name,
                x="e1",
                y="e2",
                value="loss",
                x_label="step along the gradient",
                y_label="step across it",
                value_label="cross-entropy",
                rates=False,
                marks={"the image": (0.0, 0.0)},
            )
            for name, view in VIEWS.items()
        ),
    )


def _notes(evidence: Evidence) -> tuple[str, ...]:
    beside = (
        f"Examples were made on {', '.join(evidence.sources)}."
        if evidence.sources
        else "Without other models (--sources) the two checks by transferred examples were left out."
    )
    return (
        "Checks are over the images that the model classifies correctly, each against eps unless it says otherwise. Attacks that "
        "follow gradients are FGSM, R+FGSM and I-FGSM (40 steps) on the cross-entropy, PGD (5 starts of 20 steps) on the margin; "
        f"random search is {SEARCHED[evidence.claim.threat.norm]} with 300 queries. {beside}",
        "Where two attacks of the same price are compared, images that only the model's own gradient breaks (excused) are set off "
        "against those that only the other breaks. Elsewhere each image is its own test.",
        "Loss ratio: mean cross-entropy after one step over that after iterated ascent (the best of the image itself and 2 random "
        "starts); cosine: between the two perturbations. Both fall at large eps in every network: they are evidence, not a check.",
    )


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return finite(known.mean()) if len(known) else None
