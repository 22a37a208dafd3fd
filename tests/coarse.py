"""The masking probe with fewer sizes, steps and points: for tests of what it tells of a model."""

from __future__ import annotations

from functools import partial

import pytest

from scotoma.probes.masking import probe


def coarse(patch: pytest.MonkeyPatch) -> None:
    """Let the probe look at a few sizes, steps and points."""
    patch.setattr(probe, "SIZES", (0.5, 1.0, 2.0))
    patch.setattr(probe, "STEPS", (1, 5, 20))
    patch.setattr(probe, "LINEARITY", {"steps": 5, "restarts": 1})
    patch.setattr(probe, "IN_PLANES", 5)
    patch.setattr(probe, "loss_surface", partial(probe.loss_surface, steps=3))
