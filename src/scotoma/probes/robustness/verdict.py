"""The verdict on an attack success rate, which other probes use too."""

from __future__ import annotations

from scotoma.results.finding import Verdict
from scotoma.utils.stats import Rate
from scotoma.utils.text import percentage

HOLDS, BROKEN = 0.15, 0.5
"""Success rates up to which a claim without numbers holds, since the best published networks lose
about as much on MNIST, and above which it is broken: most images are fooled."""
NOTHING_TO_ATTACK = (
    "The model classifies none of the audited images correctly, so there is nothing to attack."
)


def rule(holds: float = HOLDS, broken: float = BROKEN) -> str:
    """Return how `verdict` decides."""
    return (
        f"holds if the 95% interval of the attack success rate at eps lies below "
        f"{percentage(holds)}, broken if it lies above {percentage(broken)}, undecided if it "
        f"reaches from below {percentage(holds)} to above {percentage(broken)}, else weak"
    )


def verdict(success: Rate, holds: float = HOLDS, broken: float = BROKEN) -> Verdict:
    """Return the verdict of `rule` on an attack success rate."""
    if success.n == 0:
        return "not applicable"
    if success.high < holds:
        return "holds"
    if success.low > broken:
        return "broken"
    return "undecided" if success.low < holds and success.high > broken else "weak"
