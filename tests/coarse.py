"""Audits with fewer sizes, steps, queries and points: for tests of what they tell of a model."""

from __future__ import annotations

from functools import partial

import pytest

from scotoma.attacks.adaptive import adapted
from scotoma.attacks.min_l2 import MinL2
from scotoma.attacks.min_linf import MinLinf
from scotoma.probes.divergence import probe as divergence
from scotoma.probes.masking import probe


def coarse(patch: pytest.MonkeyPatch) -> None:
    """Let probes look at a few sizes, steps, points and draws, and adapted attacks be short."""
    patch.setattr(probe, "SIZES", (0.5, 1.0, 2.0))
    patch.setattr(probe, "STEPS", (1, 5, 20))
    patch.setattr(probe, "LINEARITY", {"steps": 5, "restarts": 1})
    made = probe.Masking.__init__
    patch.setattr(made, "__defaults__", (*(made.__defaults__ or ())[:-2], 5, 3))  # planes, lines
    patch.setattr(divergence, "divergence", partial(divergence.divergence, draws=8))
    hasty(patch)


def hasty(patch: pytest.MonkeyPatch) -> None:
    """Let adapted attacks be short: their strength has its own tests."""

    def search(attack: adapted.Adapted, first: bool) -> MinLinf | MinL2:
        kind = {"linf": MinLinf, "l2": MinL2}[attack.norm]
        return kind(attack.norm, 30, 1, 10, until=attack.until)

    patch.setattr(adapted.Adapted, "_search", search)
    patch.setattr(adapted, "QUERIES", 50)
    patch.setattr(adapted, "DECISIONS", 150)
