"""The content of a test report on an audit, in the order of clause 7.8 of ISO/IEC 17025."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from scotoma.results.comparison.audits import Audit
from scotoma.results.exports import measured
from scotoma.results.exports.measured import Quantity, unattacked
from scotoma.utils.text import counted, norm_name, number

NORMS = ("linf", "l2", "l1", "l0")
NAMES = {
    "accuracy": "Accuracy without an attack",
    "robust accuracy": "Robust accuracy (upper bound)",
    "attack success": "Attack success rate, of images classified correctly",
    "median": "Median smallest perturbation (upper bound)",
}


@dataclass(frozen=True)
class Summary:
    """A test report; pairs are of a label and a text.

    Args:
        identification: the report, the tested item and the data.
        method, conditions: how and where it was measured.
        results: quantity, condition, value, 95% interval and n, as text.
        decisions: what was decided, verdict and rule: numbers that the claim states, then probes.
        untested: what was not tested, a sentence each.
        remarks: what the numbers mean, and notes of the audit.
    """

    identification: list[tuple[str, str]]
    method: list[tuple[str, str]]
    conditions: list[tuple[str, str]]
    results: list[tuple[str, str, str, str, str]]
    decisions: list[tuple[str, str, str]]
    untested: list[str]
    remarks: list[str]

    @classmethod
    def of(cls, audit: Audit, probes: tuple[str, ...] = (), now: datetime | None = None) -> Summary:
        """Return the test report of an audit, which names those of all `probes` that did not run.

        It is issued `now`; None is the present.
        """
        issued = (now or datetime.now(UTC)).isoformat(timespec="seconds")
        every = [*measured.quantities(audit), *measured.in_other_norms(audit)]
        return cls(
            _identification(audit, issued),
            list(_method(audit)),
            list(_conditions(audit.report.provenance)),
            [_result(each) for each in every],
            list(_decisions(audit)),
            list(_untested(audit, probes)),
            list(_remarks(audit)),
        )


def _identification(audit: Audit, issued: str) -> list[tuple[str, str]]:
    about, identity = audit.report.provenance, audit.identity
    data = about.get("data", {})
    return [
        ("Report", f"digest of findings {about.get('digest')}"),
        ("Issued", issued),
        ("Item tested", f"model {identity['model']}, SHA-256 {identity.get('model_sha256')}"),
        ("Data", f"{identity['data']}, SHA-256 {identity['data_sha256']}"),
        (
            "Sample",
            f"{audit.audited:,} of {counted(data.get('test', 0), 'test image')}"
            + ("" if not unattacked(audit) else f", drawn at random with seed {about.get('seed')}"),
        ),
    ]


def _method(audit: Audit) -> Iterator[tuple[str, str]]:
    about = audit.report.provenance
    within = audit.threat.words
    yield "Claim tested", f"correct under every perturbation within {within}"
    version = about.get("versions", {}).get("scotoma")
    yield "Program", f"Scotoma {version}, seed {about.get('seed')}"
    yield "Audit attack", f"{about.get('attack')}, {about.get('gradient')} gradients"
    yield "Attacks", ", ".join(measured.kinds_of_attacks(audit))
    yield (
        "Evaluation",
        "every adversarial image evaluated again in float32 outside the attack; an image counts "
        "with the smallest perturbation of all attacks",
    )
    yield "Command", str(about.get("command"))


def _conditions(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    threads = about.get("threads", 1)
    yield "Machine", f"{about.get('device')}, {threads} thread{'s' * (threads != 1)}"
    versions = about.get("versions", {})
    packages = (f"{name} {text}" for name, text in versions.items() if name != "scotoma")
    yield "Software", ", ".join(packages)
    yield "Performed", f"{about.get('started')}, {about.get('seconds'):,} s"


def _result(quantity: Quantity) -> tuple[str, str, str, str, str]:
    threat, value = quantity.threat, quantity.value
    n = f"{value.n:,} of {quantity.of:,}" if quantity.of else f"{value.n:,}"
    if quantity.name == "median" and threat is not None:
        condition, texts = norm_name(threat.norm), [number(float(each)) for each in value[:3]]
    else:
        condition = threat.words if threat else ""
        texts = [f"{each:.1%}" if value.n else "–" for each in value[:3]]
    return NAMES[quantity.name], condition, texts[0], f"{texts[1]} to {texts[2]}", n


def _decisions(audit: Audit) -> Iterator[tuple[str, str, str]]:
    stated = measured.stated(audit)
    for finding in audit.report.findings:
        rule = finding.rule
        for row in stated if finding.probe == "robustness" else ():
            yield f"{row['claim']} of {row['claimed']:.1%}", row["verdict"], rule
            rule = "as above"
        own = f"robust accuracy within {audit.threat}"
        if finding.probe != "robustness" or own not in {row["claim"] for row in stated}:
            yield finding.probe, finding.verdict, rule


def _untested(audit: Audit, probes: tuple[str, ...]) -> Iterator[str]:
    measured_norms = {audit.threat.norm, *audit.bounds}
    other_norms = [norm_name(norm) for norm in NORMS if norm not in measured_norms]
    if other_norms:
        yield f"Robustness to perturbations measured in {', '.join(other_norms)}."
    ran = {finding.probe: finding.verdict for finding in audit.report.findings}
    missing = [probe for probe in probes if probe not in ran]
    if missing:
        yield f"Probes that did not run: {', '.join(missing)}."
    idle = [probe for probe, verdict in ran.items() if verdict == "not applicable"]
    if idle:
        yield f"Probes that do not apply to this item: {', '.join(idle)}."
    if n := unattacked(audit):
        yield f"{n:,} of the test images were not attacked."
    if not measured.certified(audit):
        yield "No robustness was certified: stronger attacks may lower every robust accuracy."


def _remarks(audit: Audit) -> Iterator[str]:
    quantities = measured.quantities(audit)
    if any(each.name == "median" and each.value.value == math.inf for each in quantities):
        yield "A median of ∞ is not reached: no attack fooled half of the images."
    yield "The results relate only to the item and the images tested."
    if total := max(each.of for each in quantities):
        yield (
            f"Accuracy, robust accuracy and attack success are of all {total:,} test images, the "
            "last two estimated from n attacked ones (stratified; intervals about this test set). "
            f"Other results are of the {counted(audit.audited, 'image')} drawn at random."
        )
    elif not unattacked(audit) and measured.stated(audit):
        yield (
            "All test images were attacked, so stated numbers are compared with the value itself; "
            "the intervals are about images like these."
        )
    yield (
        f"Intervals are 95% (Wilson for {'other ' if total else ''}rates, order statistics for the "
        "median). They cover the choice of images and not the strength of the attacks."
    )
    yield "The full results, with figures and adversarial images, are in the report of this digest."
    if audit.hidden:
        yield "The model's gradient is hidden and no attack got around it."
    yield from audit.report.errors
    yield from audit.report.provenance.get("notes", ())
