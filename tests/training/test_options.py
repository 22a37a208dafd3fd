"""Hyper-parameters by name, as typed and as kept."""

from __future__ import annotations

import pytest

from scotoma.threat import Threat
from scotoma.training.options import check, make, options_of, parse
from scotoma.training.single_step import NoiseFGSM
from scotoma.utils.errors import InputError

THREAT = Threat("linf", 0.1)


def test_values_take_the_type_of_the_default():
    assert parse("pgd", ["steps=3", "warmup=1"]) == {"steps": 3, "warmup": 1.0}
    assert isinstance(parse("pgd", ["warmup=1"])["warmup"], float)
    assert parse("ensemble", ["step=step-ll"]) == {"step": "step-ll"}
    assert parse("wong", ["projections=none"]) == {"projections": None}
    assert parse("wrm", []) == {}


@pytest.mark.parametrize(
    ("recipe", "typed", "message"),
    [
        ("pgd", "steps", "write it as NAME=VALUE"),
        ("pgd", "steps=many", "want a whole number, as in steps=7"),
        ("pgd", "warmup=x", "want a number"),
        ("pgd", "stepps=3", "did you mean 'steps'"),
        ("natural", "steps=3", "it has none"),
        ("madry", "steps=3", "unknown recipe 'madry'"),
        ("pgd", "steps=0", "steps=0: want a whole number above 0"),
        ("pgd", "steps=-4", "steps=-4: want a whole number above 0"),
        ("pgd", "warmup=0", "warmup=0.0: want a number above 0, at most 1"),
        ("pgd-composed", "reach=-3", "reach=-3.0: want a number from 0 to 1"),
        ("pgd-composed", "white=7", "white=7.0: want a number from 0 to 1"),
        ("fast", "step=nan", "step=nan: want a number above 0"),
        ("n-fgsm", "noise=-1", "noise=-1.0: want a number from 0"),
    ],
)
def test_what_is_no_option(recipe, typed, message):
    with pytest.raises(InputError) as error:
        parse(recipe, [typed])
    assert message in str(error.value)


def test_a_recipe_made_in_python_is_checked_too():
    for wrong in ({"steps": 0}, {"steps": 1.5}, {"warmup": 0}):
        with pytest.raises(InputError, match="want a"):
            make("pgd", THREAT, wrong)
    check(NoiseFGSM(THREAT, noise=0))


def test_a_card_keeps_all_but_the_threat():
    assert options_of(make("pgd", THREAT, {"steps": 3})) == {"steps": 3, "warmup": 0.3}
    assert options_of(make("natural", THREAT, {})) == {}
