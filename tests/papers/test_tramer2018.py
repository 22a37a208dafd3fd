"""The published figures agree with one another and with what the paper says of them."""

import pytest

from scotoma.papers.tramer2018 import published
from scotoma.papers.tramer2018.published import (
    COSINE,
    FIGURE2_EPS,
    LOSS_RATIO,
    NETWORKS,
    SOURCES,
    TABLE1,
    TABLE2,
    TABLE4,
)


def test_every_figure_is_a_rate_of_a_network():
    for table in (TABLE1, TABLE2, TABLE4, LOSS_RATIO, COSINE):
        assert set(table) <= set(NETWORKS)
    every = [value for table in (TABLE1, TABLE2) for row in table.values() for value in row] + list(
        LOSS_RATIO.values()
    )
    assert all(0 < value < 1 for value in every)
    # percentages with one digit
    assert all(value * 1000 == pytest.approx(round(value * 1000), abs=1e-6) for value in every)


def test_the_tables_repeat_one_another():
    assert tuple(TABLE1) == tuple(TABLE2) == SOURCES
    for column, name in enumerate(SOURCES):
        assert TABLE1[name][column] == TABLE2[name][0], "white-box Step-LL"
    for name in set(TABLE2) & set(TABLE4):
        assert TABLE4[name].step_ll == TABLE2[name][0]


def test_the_claims_that_are_checked_here_hold_in_the_papers_own_tables():
    for name, row in TABLE1.items():
        own = row[SOURCES.index(name)]
        others = [error for source, error in zip(SOURCES, row, strict=True) if source != name]
        assert all(error > own if name.endswith("adv") else error < own for error in others)
    assert all(rand > single for single, rand in TABLE2.values())
    for family in ("v3", "irv2"):
        natural, single = TABLE4[family], TABLE4[f"{family}adv"]
        for name, ensemble in TABLE4.items():
            if name.startswith(f"{family}adv-ens"):
                assert ensemble.black_box < single.black_box < natural.black_box
                assert ensemble.black_box_top5 < single.black_box_top5 < natural.black_box_top5
                assert single.step_ll < ensemble.step_ll < natural.step_ll
                assert LOSS_RATIO[f"{family}adv"] < LOSS_RATIO[name] < LOSS_RATIO[family]


def test_an_attack_never_lowers_the_error():
    for errors in TABLE4.values():
        assert errors.clean < errors.step_ll
        assert errors.clean < errors.black_box
        assert errors.black_box_top5 < errors.black_box


def test_sizes():
    assert published.IMAGENET_THREAT.eps == FIGURE2_EPS[-1] == 0.0625
    assert published.RAND_FGSM_PGD_ACCURACY < published.RAND_FGSM_ACCURACY
