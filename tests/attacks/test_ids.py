"""The frozen names by which attacks seed random numbers and name work units."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from scotoma.attacks import ATTACKS
from scotoma.attacks.bpda import BPDA
from scotoma.attacks.estimated import Estimated
from scotoma.attacks.pgd import PGD
from scotoma.attacks.refine import Refined
from scotoma.execution.fingerprint import attack_id, describe
from scotoma.threat import Threat

THREAT = Threat("linf", 0.1)


@dataclass(frozen=True)
class Other(PGD):
    """Another attack, whose author gave it no id."""


def fails(model, images, labels, generator=None):
    return images


@pytest.mark.parametrize("name", ATTACKS)
def test_the_id_of_an_attack_is_its_name(name: str):
    assert vars(ATTACKS[name])["id"] == name


def test_ids_of_wrappers_contain_the_attack_inside():
    assert attack_id(PGD(THREAT)) == "pgd"
    assert attack_id(BPDA(PGD(THREAT))) == "bpda(pgd)"
    assert attack_id(Refined(Estimated(PGD(THREAT)))) == "refined(estimate(pgd))"


def test_a_class_without_an_id_and_a_function_have_their_own_name():
    assert attack_id(Other(THREAT)) == "Other"
    assert attack_id(fails) == "fails"
    assert attack_id(BPDA(fails)) == "bpda(fails)"


def test_the_type_in_a_work_unit_is_the_id():
    assert describe(BPDA(PGD(THREAT)))["attack"]["type"] == "pgd"
    assert describe(BPDA(PGD(THREAT)))["type"] == "bpda"
    assert describe(Other(THREAT))["type"] == f"{__name__}.Other"
