"""Names and numbers as people write them."""

from __future__ import annotations

import pytest

from scotoma.report.text import aligned, columns, definitions, key_numbers
from scotoma.utils.text import humanise, scalar


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("robust_accuracy", "Robust accuracy"),
        ("median_linf", "Median L-inf"),
        ("linf", "L-inf"),
        ("n", "n"),
        ("p_value", "p value"),
    ],
)
def test_names(name, words):
    assert humanise(name) == words


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"),
        (True, "yes"),
        (0, "0"),
        (500, "500"),
        (41250, "41,250"),
        (0.98437, "0.9844"),
        (0.3, "0.3"),
        (0.0, "0"),
        (-0.25, "−0.25"),
        (754.25, "754.2"),
        (12345.6, "12,346"),
        (3.2e-9, "3.2 × 10⁻⁹"),
        (-1e-12, "−1 × 10⁻¹²"),
        (float("inf"), "∞"),
        ("cpu", "cpu"),
    ],
)
def test_scalars(value, written):
    assert scalar(value) == written


def test_numbers_of_a_column_share_their_decimals():
    table = columns(
        [
            {"eps": 0.1, "n": 5, "attack": "PGD"},
            {"eps": 0.125, "n": None, "attack": None},
            {"eps": None, "late": 1.5},
        ]
    )
    assert [(column.heading, column.cells, column.numeric) for column in table] == [
        ("eps", ["0.100", "0.125", "–"], True),
        ("n", ["5", "–", "–"], True),
        ("Attack", ["PGD", "–", "–"], False),
        ("Late", ["–", "–", "1.5"], True),
    ]


def test_an_interval_stands_beside_its_number():
    rate, low, other = key_numbers(
        {
            "rate": 0.5,
            "rate_low": 0.46,
            "rate_high": 0.5417,
            "only_low": 1,
            "x": {"y": {"z": [1, None]}},
        }
    )[:3]
    assert (rate.name, rate.value, rate.interval) == ("Rate", "0.500", "0.460–0.542")
    assert (low.name, low.value, low.interval) == ("Only low", "1", "")
    assert (other.name, other.value) == ("X, y, z", "1, –")


def test_a_number_without_a_value_keeps_its_ends():
    entries = key_numbers({"rate": None, "rate_low": None, "rate_high": None})
    assert [(entry.name, entry.value, entry.interval) for entry in entries] == [("Rate", "–", "")]


def test_definitions_nest_and_leave_whole_numbers_plain():
    model, seed = definitions(
        {"model": {"sha256": "ab", "weights": {"bytes": 1234567}}, "seed": 20190}
    )
    assert [entry.name for entry in model.entries] == ["SHA-256", "Weights"]
    assert model.entries[1].entries[0].value == "1234567"
    assert seed.value == "20190"


def test_a_table_folds_the_ends_of_an_interval_into_its_value():
    rows = [
        {"n": 5, "rate": 0.5, "rate_low": 0.25, "rate_high": 0.75},
        {"n": 0, "rate": None, "rate_low": None, "rate_high": None},
    ]
    made = columns(rows)
    assert [column.heading for column in made] == ["n", "Rate"]
    assert made[1].cells == ["0.50 (0.25–0.75)", "–"]


def test_intervals_are_rounded_where_one_end_is_tiny():
    assert aligned([0.5, 3.78e-5, 0.012], 3, rounded=True) == ["0.500", "0.000", "0.012"]
    assert aligned([0.5, 3.78e-5], 3) == ["0.5", "3.78 × 10⁻⁵"]
    assert aligned([3e-6, 1e-7], 3, rounded=True) == ["3 × 10⁻⁶", "1 × 10⁻⁷"]
    assert aligned([None, 0.25, 1e-9], 3, rounded=True) == ["–", "0.250", "0.000"]
