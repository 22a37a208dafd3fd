"""What minimum-norm attacks promise, on linear models and on models that nothing fools."""

from __future__ import annotations

import decisions
import few_pixels
import minimum_norm
import pytest

from scotoma.attacks.boundary import Boundary
from scotoma.attacks.carlini_wagner_l2 import CarliniWagnerL2
from scotoma.attacks.cgba import CGBA
from scotoma.attacks.core.base import MinimumNormAttack
from scotoma.attacks.ddn import DDN
from scotoma.attacks.deepfool import DeepFool
from scotoma.attacks.fmn import FMN, FMNL1, FMNL2
from scotoma.attacks.hop_skip_jump import HopSkipJump
from scotoma.attacks.min_l2 import MinL2
from scotoma.attacks.noise import Contrast, GaussianNoise, SaltPepper
from scotoma.attacks.pointwise import Pointwise
from scotoma.attacks.sigma_zero import SigmaZero
from scotoma.attacks.vfga import VFGA

BY_DECISIONS: list[tuple[MinimumNormAttack, int]] = [
    (Boundary("l2", queries=400), 400),
    (CGBA("l2", queries=600), 600),
    *[(HopSkipJump(norm, queries=600), 600) for norm in HopSkipJump.norms],
    *[(Pointwise(norm, restarts=2), 2000) for norm in Pointwise.norms],
    *[(SaltPepper(norm, draws=20), 1 + 20 * 11) for norm in SaltPepper.norms],
    *[(GaussianNoise(norm, draws=30), 1 + 30 * 11) for norm in GaussianNoise.norms],
]
"""Attacks and the queries that they may take."""
BY_GRADIENTS: list[MinimumNormAttack] = [
    *[DeepFool(norm) for norm in DeepFool.norms],
    *[FMN("linf"), FMNL2("l2"), FMNL1("l1"), DDN("l2")],
    MinL2("l2", steps=100, restarts=2, restart_steps=20),
    CarliniWagnerL2("l2", iterations=60, searches=5, cold=3),
]
FEW_PIXELS: list[MinimumNormAttack] = [SigmaZero("l0", steps=60), VFGA("l0")]
SEARCHES = [attack for attack, _ in BY_DECISIONS] + BY_GRADIENTS


def name(value: object) -> str:
    return f"{value.id}-{value.norm}" if isinstance(value, MinimumNormAttack) else str(value)


@pytest.mark.parametrize(("attack", "queries"), BY_DECISIONS, ids=name)
def test_attacks_by_decisions_keep_their_promises(attack: MinimumNormAttack, queries: int):
    decisions.keeps_its_promises(attack, attack.norm, queries)


@pytest.mark.parametrize("attack", BY_GRADIENTS, ids=name)
def test_attacks_by_gradients_keep_their_promises(attack: MinimumNormAttack):
    minimum_norm.keeps_its_promises(attack, attack.norm)


@pytest.mark.parametrize("attack", BY_GRADIENTS, ids=name)
def test_attacks_by_gradients_survive_what_is_not_a_number_or_flat(attack: MinimumNormAttack):
    minimum_norm.survives(attack)


@pytest.mark.parametrize("attack", FEW_PIXELS, ids=name)
def test_attacks_on_few_pixels_keep_their_promises(attack: MinimumNormAttack):
    few_pixels.keeps_its_promises(attack)
    few_pixels.gives_up(attack)
    few_pixels.no_pixel_alone_can_be_taken_back(attack)


# FMN's steps in L-inf follow signs, which rounding turns in another batch
@pytest.mark.parametrize(
    "attack", [each for each in SEARCHES if type(each) is not FMN] + FEW_PIXELS, ids=name
)
def test_no_attack_knows_the_batch(attack: MinimumNormAttack):
    decisions.knows_no_batch(attack)


@pytest.mark.parametrize("attack", [*SEARCHES, *map(Contrast, Contrast.norms)], ids=name)
def test_attacks_give_up(attack: MinimumNormAttack):
    decisions.gives_up(attack)
