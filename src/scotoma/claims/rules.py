"""Rules of a gate: `robust_accuracy >= 0.45`, `blindspots != broken`."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal

from scotoma.probes import PROBES
from scotoma.results.finding import Finding
from scotoma.results.report import Report
from scotoma.results.verdicts import UNTOUCHED, blind
from scotoma.utils.errors import InputError
from scotoma.utils.registry import nearest
from scotoma.utils.stats import Estimate, interval

VERDICTS = ("holds", "weak", "broken", "undecided", "not applicable")
NUMBERS = ("clean_accuracy", "robust_accuracy", "attack_success")
"""Numbers of the robustness probe that need no name of a probe before them."""
WHOLE = "test_set_"
"""Prefix of the names of these numbers where they are for the whole test set."""
DROP = "drop_against_baseline"
"""Robust accuracy of the baseline less that of the audit, on the images of both."""
MORE = ("map", "certificate", "distributional")
"""Probes that are asked for by other commands or options."""
FORM = re.compile(r"^\s*([a-z_0-9.]+)\s*(>=|<=|==|!=|>|<)\s*(.+?)\s*$")
MOST = 10_000_000

Result = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        probe: name of the probe.
        number: name of one of its numbers; "" for its verdict.
        comparison: ">=", "<=", ">", "<" for numbers; "==", "!=" for verdicts.
        value: a number or a verdict.
        text: the rule as it was written.
    """

    probe: str
    number: str
    comparison: str
    value: float | str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Decision:
    """What a rule says of an audit, and why.

    >>> Decision(parse("masking != broken"), "passed", "masking holds").result
    'passed'
    """

    rule: Rule
    result: Result
    reason: str


def parse(text: str) -> Rule:
    """Read a rule.

    Raises:
        InputError: it is none, or it names no probe or no verdict.

    >>> parse("blindspots != broken").probe, parse("robust_accuracy >= 45%").value
    ('blindspots', 0.45)
    """
    match = FORM.match(text)
    if not match:
        raise InputError(
            f"rule {text!r}: write NAME >= NUMBER or PROBE != VERDICT, such as "
            "'robust_accuracy >= 0.45' or 'blindspots != broken'"
        )
    name, comparison, value = match.groups()
    probe, _, number = name.partition(".")
    probes = [*PROBES, *MORE]
    if not number and name in (*NUMBERS, DROP):
        probe, number = "robustness", name
    elif probe not in probes:
        hint = nearest(probe, [*probes, *NUMBERS, DROP])
        raise InputError(f"rule {text!r}: {probe!r} is no probe and no number; {hint}")
    if number:
        share = _share(text, value)
        shares = probe == "robustness" and number.removeprefix(WHOLE) in (*NUMBERS, DROP)
        minimum = -1 if number == DROP else 0
        if shares and not minimum <= share <= 1:  # or `attack_success <= 15` would always pass
            raise InputError(
                f"rule {text!r}: {name} is a share from {minimum} to 1; write {share / 100:g} or "
                f"{share:g}%"
            )
        if comparison in ("==", "!="):
            raise InputError(f"rule {text!r}: a number is compared by >=, <=, > or <")
        return Rule(probe, number, comparison, share, text)
    if comparison not in ("==", "!="):
        raise InputError(f"rule {text!r}: a verdict is compared by == or !=")
    if value not in VERDICTS:
        raise InputError(f"rule {text!r}: {value!r} is no verdict; {nearest(value, [*VERDICTS])}")
    return Rule(probe, "", comparison, value, text)


def _share(text: str, value: str) -> float:
    """Read a number or a percentage."""
    try:
        share = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not math.isfinite(share):
        raise InputError(f"rule {text!r}: {value!r} is no number")
    return share


def apply(rule: Rule, report: Report, drop: Estimate | None = None) -> Decision:
    """Apply a rule to the bounds of the 95% interval of a number, or to a verdict.

    `drop` is the loss of robust accuracy against the baseline, for `drop_against_baseline`.

    Raises:
        InputError: the audit has no such probe or number, or there is no baseline.
    """
    if rule.probe not in (finding.probe for finding in report.findings):
        raise InputError(f"rule {rule.text!r}: this audit has no probe {rule.probe}")
    finding = report[rule.probe]
    if not rule.number:
        return _verdict(rule, finding)
    total = report.provenance.get("data", {}).get("test", 0)
    decision = _number(rule, _measurement(rule, finding, drop, total), total)
    doubt = report.provenance.get("doubt", "")
    hidden = rule.probe not in UNTOUCHED and blind(report.findings, doubt)
    if decision.result == "passed" and hidden:
        why = doubt or "gradients are masked, and no attack got around it"
        reason = f"{decision.reason}, but {why}: attacks that fail prove nothing"
        return Decision(rule, "undecided", reason)
    return decision


def _verdict(rule: Rule, finding: Finding) -> Decision:
    reason = f"{finding.probe}: {finding.verdict}"
    if finding.verdict == "undecided" != rule.value:
        return Decision(rule, "undecided", reason)
    equal = finding.verdict == rule.value
    return Decision(rule, "passed" if equal == (rule.comparison == "==") else "failed", reason)


@dataclass(frozen=True)
class Measurement:
    """A number that a rule names: its value, its bounds, and the images that it is measured on."""

    value: float | None
    low: float | None
    high: float | None
    about: str


def _measurement(rule: Rule, finding: Finding, drop: Estimate | None, total: int) -> Measurement:
    """Return the number that a rule names.

    Accuracy, robust accuracy and attack success are those of the test set where that is known: no
    sampling error is left where all of its `total` images were attacked.
    """
    if rule.number == DROP:
        if drop is None:
            raise InputError(f"rule {rule.text!r} compares with another audit: give a baseline")
        return Measurement(drop.value, drop.low, drop.high, f"n = {drop.n:,}")
    numbers, name = finding.numbers, rule.number.removeprefix(WHOLE)
    of_robustness = finding.probe == "robustness" and name in NUMBERS
    if of_robustness and f"{WHOLE}{name}" in numbers:
        value, low, high = (numbers[f"{WHOLE}{name}{end}"] for end in ("", "_low", "_high"))
        about = f"on all {numbers['test_set_images']:,} test images"
        return Measurement(
            value, low, high, f"{about}, n = {numbers['test_set_attacked']:,} attacked"
        )
    if of_robustness and rule.number in numbers and numbers.get("n") == total > 0:
        value = numbers[rule.number]
        return Measurement(value, value, value, f"on all {total:,} test images, all attacked")
    if rule.number not in numbers:
        hint = nearest(rule.number, [key for key in numbers if not key.endswith(("_low", "_high"))])
        raise InputError(
            f"rule {rule.text!r}: {finding.probe} has no number {rule.number!r}; {hint}"
        )
    value = numbers[rule.number]
    low, high = (numbers.get(f"{rule.number}{end}", value) for end in ("_low", "_high"))
    n = int(numbers.get("n") or 0)
    return Measurement(value, low, high, "" if low == high else f"n = {n:,}")


def _number(rule: Rule, measurement: Measurement, total: int) -> Decision:
    value, low, high = measurement.value, measurement.low, measurement.high
    if value is None or low is None or high is None:
        return Decision(rule, "undecided", f"{rule.number} is not defined on these images")
    bounds = "" if low == high else f"{low:.3g} to {high:.3g}"
    details = ", ".join(filter(None, [bounds, measurement.about]))
    reason = f"{rule.number} is {value:.3g}" + (f" ({details})" if details else "")
    result = decide(rule, low, high)
    if result == "undecided" and rule.number.removeprefix(WHOLE) in NUMBERS:
        images = images_that_would_decide(rule, value)
        if total and (images or total) >= total:
            reason += f"; attacking all {total:,} test images decides"
        elif images:
            reason += f"; at this rate {images:,} images decide"
    return Decision(rule, result, reason)


def decide(rule: Rule, low: float, high: float) -> Result:
    """Return what a rule says of an interval: it must lie on one side of the rule's number.

    >>> rule = parse("robust_accuracy >= 0.5")
    >>> decide(rule, 0.5, 0.6), decide(rule, 0.4, 0.6), decide(rule, 0.3, 0.4)
    ('passed', 'undecided', 'failed')
    """
    bound = float(rule.value)
    if rule.comparison in ("<", "<="):
        low, high, bound = -high, -low, -bound
    strict = rule.comparison in ("<", ">")
    if low > bound or (low == bound and not strict):
        return "passed"
    return "failed" if high < bound or (high == bound and strict) else "undecided"


def images_that_would_decide(rule: Rule, value: float) -> int | None:
    """Return how many images decide if the measured rate stays; None if no number does.

    >>> images_that_would_decide(parse("robust_accuracy >= 0.5"), 0.6)
    97
    """

    def decided(images: int) -> bool:
        return decide(rule, *interval(value, images)[1:3]) != "undecided"

    upper = 2
    while not decided(upper):
        upper *= 2
        if upper > MOST:
            return None
    return bisect_left(range(upper), True, lo=upper // 2 + 1, key=decided)
