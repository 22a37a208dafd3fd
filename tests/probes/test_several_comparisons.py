"""Models that lie exactly on a threshold, audited 2,000 times: few are called broken by chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scotoma.probes.inequality.analysis import Cell
from scotoma.probes.inequality.probe import Inequality
from scotoma.probes.inequality.verdict import Limits
from scotoma.probes.masking.checks import TOLERATED, Check
from scotoma.probes.robustness.verdict import BROKEN
from scotoma.probes.robustness.verdict import verdict as robustness
from scotoma.utils.stats import rate

AUDITS = 2000
MOST = 0.05


@pytest.fixture
def draws() -> np.random.Generator:
    return np.random.default_rng(0)


def share(wrong: list[bool]) -> float:
    assert len(wrong) == AUDITS
    return float(np.mean(wrong))


def masked(draws: np.random.Generator, n: int, of: int) -> bool:
    failing = draws.random((12, n)) < TOLERATED
    return any(not replace(Check("a", each), of=of).passed for each in failing)


@pytest.mark.parametrize("n", [100, 500])
def test_masking_at_the_tolerated_share_in_every_check(draws, n):
    assert share([masked(draws, n, of=12) for _ in range(AUDITS)]) < MOST


def test_without_the_correction_there_are_more_false_alarms(draws):
    assert share([masked(draws, 500, of=1) for _ in range(AUDITS)]) > 2 * MOST


def test_inequality_where_half_of_the_images_fail_in_every_cell(draws):
    def audit() -> bool:
        wrong = (draws.random((10, 100)) < Inequality.broken).astype(float)
        none = np.zeros(100)
        cells = [Cell("noise", "I", 1, 1, 0.001, {"importance": e, "random": none}) for e in wrong]
        return Limits().verdict(cells) == "broken"

    assert share([audit() for _ in range(AUDITS)]) < MOST


def test_norms_where_half_of_the_images_fall_in_both(draws):
    def audit() -> bool:
        fooled = draws.random((2, 100)) < BROKEN
        return any(robustness(rate(each, 2)) == "broken" for each in fooled)

    assert share([audit() for _ in range(AUDITS)]) < MOST


def test_a_clear_case_is_still_called_broken():
    everything = np.ones(30)
    cell = Cell("noise", "I", 1, 1, 0.001, {"importance": everything, "random": 0 * everything})
    assert Limits().verdict([cell] * 10) == "broken"
    assert not Check("a", np.arange(30) < 10, of=12).passed
