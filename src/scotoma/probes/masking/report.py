"""The finding of the masking probe."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch

from scotoma.execution import records as rec
from scotoma.metrics.subspace import survival
from scotoma.probes.base import columns, correct
from scotoma.probes.masking.checks import FLAGS, Check, Evidence
from scotoma.results.finding import Bars, Curve, Figure, Finding, Heatmap, Row, Verdict
from scotoma.results.ledger import Ledger
from scotoma.results.verdicts import FINDS_ITS_WAY, circumvented
from scotoma.utils.stats import Rate, finite, rate
from scotoma.utils.text import norm_name, percentage

LISTED = 12
"""Number of failing images that the table of a check names."""
VIEWS = {"wide": "over the whole ball", "close": "close to the image"}


def rule(tolerated: float, overshoot: float) -> str:
    """Return how the verdict is found."""
    return (
        "broken (gradients are masked) if the interval of the share of failing images lies above "
        f"the tolerated share in one check: {percentage(tolerated)}, or {percentage(overshoot)} "
        "for single steps and for the comparison with the audit attack, or if the look at the "
        "model named what hides its gradient; weak if above a fifth of that; else holds. The "
        "intervals hold for all checks at once with 95%"
    )


def finding(question: str, evidence: Evidence, ledger: Ledger) -> Finding:
    """Return the finding for the measurements, and for all attacks of the audit together."""
    threat = evidence.claim.threat
    union = rate(rec.successes(ledger.rows(), threat.eps, threat.norm))
    checks = evidence.checks()
    failed = [check for check in checks if not check.passed]
    masked = bool(failed or evidence.plan.mechanisms)
    verdict: Verdict = (
        "broken" if masked else "weak" if any(check.notable for check in checks) else "holds"
    )
    gradients = evidence.gradients
    directions = survival(torch.from_numpy(evidence.subspace), max(evidence.orders))
    return Finding(
        probe="masking",
        question=question,
        verdict=verdict,
        rule=rule(evidence.tolerated, evidence.overshoot),
        headline=_headline(evidence, checks, failed, union),
        numbers={
            "masked": masked,
            "circumvented": masked and _circumvented(evidence, union),
            "failed": len(failed),
            "checks": len(checks),
            **columns("attack_success", union),
            **columns("loss_ratio", evidence.linearity.ratio),
            **columns("cosine", evidence.linearity.mean_cosine),
            "gradient_norm": _mean(gradients["cross_entropy"].to_numpy()),
            "margin_gradient_norm": _mean(gradients["margin"].to_numpy()),
            **{f"{flag}_gradients": int(gradients[flag].sum()) for flag in FLAGS},
            "n": len(evidence.index),
        },
        tables={
            "checks": [_check(evidence, check) for check in checks],
            "attacks": [
                {"attack": name, **_success(fooled)} for name, fooled in evidence.fooled.items()
            ],
            "eps": [
                {"eps": finite(size), **_success(fooled)}
                for size, fooled in evidence.by_size.items()
            ],
            "steps": [
                {"steps": steps, **_success(fooled)} for steps, fooled in evidence.by_steps.items()
            ],
            "subspace": [
                {"k": k, **columns("share", share), "n": share.n}
                for k, share in enumerate(directions, start=1)
            ],
            **{name: _surface(table) for name, table in evidence.surfaces.items()},
        },
        figures=_figures(evidence),
        notes=_notes(evidence),
    )


def _surface(table: pl.DataFrame) -> list[Row]:
    """Return the rows of a drawn loss, null where the model returns no finite one."""
    loss = pl.when(pl.col("loss").is_finite()).then("loss")
    return table.drop("index").with_columns(loss).to_dicts()


def _circumvented(evidence: Evidence, union: Rate) -> bool:
    """Return whether the audit got around what hides the gradient."""
    fooled, named = evidence.fooled, bool(evidence.plan.mechanisms)
    return circumvented(union, fooled["the audit's own"], fooled["many restarts"], mechanisms=named)


def _success(fooled: np.ndarray) -> Row:
    return {**columns("success", rate(fooled)), "n": len(fooled)}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _check(evidence: Evidence, check: Check) -> Row:
    """Return a row of the table of checks; `images` are the first test images that fail."""
    failing = evidence.index[check.failing]
    # more excused than failing is none failing
    share = Rate(*(max(value, 0.0) for value in check.share[:3]), n=check.share.n)
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


def _headline(evidence: Evidence, checks: list[Check], failed: list[Check], union: Rate) -> str:
    success = rate(evidence.fooled["many restarts"])
    if evidence.plan.mechanisms:
        return (
            f"{_sentence('; '.join(evidence.plan.mechanisms))} Iterated attacks along the exact "
            f"gradient fool {correct(success)}; all attacks of the audit together fool "
            f"{union.value:.1%}, led by {evidence.plan.views[0]}."
        )
    if not failed:
        return (
            f"None of {len(checks)} checks found masked gradients. Iterated attacks fool "
            f"{correct(success)}; all attacks of the audit together fool {union.value:.1%}."
        )
    worst = max(failed, key=lambda check: check.share.low)
    further = (
        f"; {len(failed) - 1} more of the {len(checks)} checks fail" if len(failed) > 1 else ""
    )
    meaning = (
        f"Iterated attacks still fool {correct(success)}, but single-step attacks are no evidence."
        if success.low > FINDS_ITS_WAY
        else f"Iterated attacks fool only {correct(success)}, which is no evidence of robustness; "
        f"all attacks of the audit together fool {union.value:.1%}."
    )
    return (
        f'Gradients mislead attacks: the check "{worst.name}" fails for {correct(worst.share)}'
        f"{further}. {meaning}"
    )


def _figures(evidence: Evidence) -> tuple[Figure, ...]:
    threat = evidence.claim.threat
    kind = "signed " if threat.norm == "linf" else ""
    towards = f", towards the gradient of {evidence.sources[0]}" if evidence.sources else ""
    return (
        Bars(
            "checks",
            "Share of images that fail each check, with intervals that hold for all checks at once "
            "with 95%; where attacks of equal cost are compared, images that are evidence for the "
            f"model are subtracted. Up to {percentage(evidence.tolerated)} are tolerated, up to "
            f"{percentage(evidence.overshoot)} for single steps and for the comparison with the "
            "audit attack.",
            table="checks",
            label="check",
            series={"share of images that fail": "share"},
            y_label="share of images",
        ),
        Bars(
            "attacks",
            "Success rates at the claimed eps, from attacks that rely on the gradient to attacks "
            "that do not. If the gradient is useful, the later ones fool few images that the "
            "iterated ones do not.",
            table="attacks",
            label="attack",
            series={"success": "success"},
            y_label="success rate",
        ),
        Curve(
            "eps",
            "Success rate of PGD against the size of the ball. It must not fall, and must be 100% "
            f"at {max(evidence.by_size):g}, where the ball contains every image.",
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
            "Success rate at the claimed eps against the number of gradient steps of size eps / "
            "steps, from the image itself.",
            table="steps",
            x="steps",
            y="success",
            interval=True,
            x_label="gradient steps",
            y_label="success rate",
        ),
        Curve(
            "subspace",
            "Share of images with at least k orthogonal directions that are adversarial at eps, "
            f"from gradient-aligned sets of {', '.join(map(str, evidence.orders))} directions "
            "(Tramer et al. 2018, Figure 2).",
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
                f"The loss around test image {evidence.drawn_image}, {view}. On this image the "
                "single step reaches the smallest share of the loss that many steps reach. Across: "
                f"along its {kind}gradient; up: along a {kind}direction orthogonal to it{towards}. "
                "A masked gradient is steep in the close view but does not raise the loss in the "
                "wide view.",
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
    transfers = (
        f"Examples were made on {', '.join(evidence.sources)}."
        if evidence.sources
        else "The two checks by transferred examples need other models (option sources)."
    )
    return (
        "Checks use the images that the model classifies correctly, within eps unless they say "
        "otherwise. Gradient-based attacks are FGSM, R+FGSM, I-FGSM and PGD (20 steps each) on the "
        "cross-entropy. Where any other attack fools an image that these do not, PGD on the margin "
        "follows from 5 random starts (many restarts). Random search is Square with 100 queries. "
        f"{transfers}",
        "Where two attacks of equal cost are compared, images that only the model's own gradient "
        "fools (excused) are subtracted from those that only the other attack fools. Elsewhere "
        "each image is its own test.",
        "Loss ratio: mean cross-entropy after one step divided by that after iterated ascent (the "
        "best of the image itself and a random start); cosine: between the two perturbations. "
        "Both fall at large eps in every network: they are evidence, not a check.",
    )


def _mean(values: np.ndarray) -> float | None:
    valid = values[np.isfinite(values)]
    return finite(valid.mean()) if len(valid) else None
