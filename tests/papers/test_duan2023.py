"""The published figures agree with one another and with what the paper says of them."""

from itertools import pairwise

import pytest

from scotoma.attribution import ATTRIBUTIONS
from scotoma.attribution.colour import COLOURS
from scotoma.attribution.noise import SHARES
from scotoma.papers.duan2023 import published
from scotoma.papers.duan2023.published import (
    COUNTS,
    EPS,
    GINI,
    NOISE_I,
    OCCLUSION,
    RANDOM_NOISE,
    SETTINGS,
    TABLE3,
    VALUES,
)


def test_every_column_has_a_figure():
    for table in (GINI, OCCLUSION):
        assert all(len(values) == len(EPS) for values in table.values())
        assert all(0 < value <= 1 for values in table.values() for value in values)
    assert set(OCCLUSION) == {(setting, colour) for setting in SETTINGS for colour in COLOURS}
    assert set(TABLE3) == set(ATTRIBUTIONS)
    assert {over for *_, over in GINI} == set(published.FITS)


def test_the_claims_that_are_checked_here_hold_in_the_papers_own_tables():
    for values in GINI.values():
        assert all(high >= low for low, high in pairwise(values))
        assert values[-1] > values[0]
    for values in OCCLUSION.values():
        assert values[-1] > values[0]
    for natural, robust in TABLE3.values():
        assert robust.gini > natural.gini
        assert robust.noise_i > natural.noise_i
        assert robust.noise_ii > natural.noise_ii
    assert all(led > random for led, random in zip(NOISE_I, RANDOM_NOISE, strict=True))
    assert NOISE_I[1] - RANDOM_NOISE[1] > NOISE_I[0] - RANDOM_NOISE[0]


def test_tables_repeat_one_another():
    for column, line in (
        (0, TABLE3["integrated-gradients"][0]),
        (-1, TABLE3["integrated-gradients"][1]),
    ):
        for colour in COLOURS:
            assert getattr(line, colour) == OCCLUSION[SETTINGS[0], colour][column]


def test_counts_are_those_of_the_attack():
    assert pytest.approx(SHARES) == tuple(count / VALUES for count in COUNTS)
    assert VALUES == 3 * published.SIDE**2
    assert published.MIDDLE in tuple(count / VALUES for count in COUNTS)
