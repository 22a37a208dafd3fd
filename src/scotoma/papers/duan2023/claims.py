"""What the paper claims of a sweep, as comparisons on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from scotoma.attribution.colour import COLOURS
from scotoma.attribution.noise import TYPES
from scotoma.papers.duan2023 import published
from scotoma.papers.duan2023.checks import Check, larger, more_errors, wider_gap
from scotoma.papers.duan2023.measured import Found, Measured
from scotoma.utils.stats import Estimate


def of_sweep(found: Found) -> list[Check]:
    """All of them, for models from natural training to the largest size."""
    names = list(found)
    first, last = names[0], names[-1]
    steps = list(pairwise(names)) + ([(first, last)] if len(names) > 2 else [])
    made = [
        check
        for over in published.FITS
        for low, high in steps
        for check in unequal(found, low, high, over)
    ]
    natural, robust = found[first], found[last]
    return [
        *made,
        *led(robust, last),
        *gap(natural, robust, f"{first}, {last}"),
        *covered(robust, last),
        *exposed(natural, robust, f"{first}, {last}"),
    ]


def unequal(
    found: Found, low: str, high: str, over: str = "global", where: str | None = None
) -> Iterator[Check]:
    """Attribution is more unequal after training at the larger size; None tells both sizes."""
    convention = published.FITS[over]
    yield larger(
        f"the {over} Gini coefficient ({convention}) is larger after training at a larger size",
        where or f"{low}, {high}",
        (high, found[high].gini(over, convention)),
        (low, found[low].gini(over, convention)),
    )


def led(model: Measured, where: str) -> Iterator[Check]:
    """The map says where noise does most."""
    for kind in TYPES:
        yield more_errors(
            f"noise of type {kind} on the {model.middle} most important values makes more errors than on as many at random",
            where,
            ("important", model.noise(kind)),
            ("random", model.noise(kind, "random")),
        )


def gap(natural: Measured, robust: Measured, where: str) -> Iterator[Check]:
    """The map says more of the robust model."""
    for kind in TYPES:
        yield wider_gap(
            f"what importance adds to the errors under noise of type {kind} is more after adversarial training",
            where,
            ("robust", robust.noise(kind), robust.noise(kind, "random")),
            ("natural", natural.noise(kind), natural.noise(kind, "random")),
        )


def covered(model: Measured, where: str) -> Iterator[Check]:
    """Squares do more over important places than over any."""
    for number, (regions, radius) in enumerate(model.settings):
        for colour in COLOURS:
            yield more_errors(
                "squares over important places make more errors than over random ones",
                f"{where}, {told(regions, radius)}, {colour}",
                ("important", model.occlusion(number, colour)),
                ("random", model.occlusion(number, colour, "random")),
            )


def exposed(natural: Measured, robust: Measured, where: str) -> Iterator[Check]:
    """Squares over important places do more to the robust model."""
    for number, (regions, radius) in enumerate(robust.settings):
        for colour in COLOURS:
            yield more_errors(
                "squares over important places make more errors after adversarial training",
                f"{where}, {told(regions, radius)}, {colour}",
                ("robust", robust.occlusion(number, colour)),
                ("natural", natural.occlusion(number, colour)),
            )


def told(regions: int, radius: int) -> str:
    """A setting of occlusion in words."""
    return f"up to {regions} square{'s' if regions > 1 else ''} of {2 * radius}x{2 * radius}"


def outcome(checks: list[Check]) -> str:
    """How many hold, and which say the opposite, as the end of a headline."""
    held = sum(check.holds for check in checks)
    said = f"{held} of {len(checks)} comparisons are as the paper claims"
    contrary = [check for check in checks if check.contrary]
    against = [
        _against([check for check in contrary if check.claim == claim])
        for claim in dict.fromkeys(c.claim for c in contrary)
    ]
    open_ = len(checks) - held - len(contrary)
    if open_:
        said += f", {open_} {'is' if open_ == 1 else 'are'} not decided"
    return said + (f"; the opposite is so for: {'; '.join(against)}." if against else ".")


def _against(checks: list[Check]) -> str:
    """A claim of which the opposite is so in these comparisons."""
    if len(checks) == 1:
        return f"{checks[0].claim} ({checks[0].where}): {_spread(checks[0].difference)}"
    differences = [check.difference.value for check in checks]
    return f"{checks[0].claim}, in {len(checks)} comparisons: {min(differences):+.3f} to {max(differences):+.3f}"


def _spread(difference: Estimate) -> str:
    return f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"
