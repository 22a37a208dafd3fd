"""The verdict on a test set after transforms: is a harmless one a blind spot?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scotoma.probes.blindspots.transformed import TransformedSet
from scotoma.results.finding import Verdict
from scotoma.utils.stats import Estimate, rate, simultaneous_differences


def falls(base: TransformedSet, sets: Sequence[TransformedSet]) -> list[Estimate]:
    """Return how far robust accuracy falls after each transform, on the images that it attacked.

    It is robust accuracy at eps before, minus that at alpha·eps after. All transforms are attacked
    on the same images; all intervals hold at once. An image that is not valid after a transform
    counts as if the transform changed nothing.
    """
    if not sets:
        return []
    before, after = base.withstanding(base.eps), [s.withstanding(s.scaled_eps) for s in sets]
    shared = set(before).intersection(*(set(s.records["index"].to_list()) for s in sets))
    index = sorted(shared)
    fooled = np.array([[not each.get(i, before[i]) for i in index] for each in after], bool)
    return simultaneous_differences(fooled, np.array([not before[i] for i in index], bool))


def blind(base: TransformedSet, harmless: Sequence[TransformedSet]) -> list[bool]:
    """Return for each harmless transform whether it is a blind spot: weak or broken by the rule."""
    return [fall.n > 0 and fall.low > base.limits.fall for fall in falls(base, harmless)]


def verdict(base: TransformedSet, harmless: Sequence[TransformedSet]) -> Verdict:
    """Return the verdict of `Limits.rule`, by the limits of `base`."""
    broken = base.limits.broken
    if base.success.n == 0 or base.success.low > broken:
        return "not applicable"
    if not harmless:
        return "undecided"
    weak = [s for s, spot in zip(harmless, blind(base, harmless), strict=True) if spot]
    if any(rate(each.fooled_scaled, len(harmless)).low > broken for each in weak):
        return "broken"
    if weak:
        return "weak"
    unclear = any(
        fall.n > 0 and (fall.value > base.limits.fall or fall.high > broken)
        for fall in falls(base, harmless)
    )
    return "undecided" if unclear else "holds"
