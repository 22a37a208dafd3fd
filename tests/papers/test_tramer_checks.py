"""Differences of errors over the same images, and the claims that they decide."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scotoma.papers.checks import more_errors
from scotoma.papers.tramer2018.errors import HELD_OUT, SAME, SEEN, Errors, role
from scotoma.papers.tramer2018.study import Mnist, more_than
from scotoma.reference import REFERENCES
from scotoma.utils.stats import paired_difference as paired

N = 400


def share(value: float, n: int = N) -> np.ndarray:
    """That share of images, the first ones, wrong."""
    return np.arange(n) < round(value * n)


def test_a_paired_difference_and_its_interval():
    a, b = share(0.3), share(0.1)
    found = paired(a, b)
    assert (found.value, found.n) == (pytest.approx(0.2), N)
    assert 0.15 < found.low < found.value < found.high < 0.25
    back = paired(b, a)
    assert (back.value, back.low, back.high) == pytest.approx(
        (-found.value, -found.high, -found.low)
    )
    # the same rates on other images are far less certain
    spread = paired(a, np.roll(b, N // 2))
    assert spread.value == pytest.approx(0.2)
    assert spread.high - spread.low > found.high - found.low


def test_a_paired_difference_without_disagreement_or_images():
    same = paired(share(0.3), share(0.3))
    assert same.value == 0
    assert same.low < 0 < same.high
    assert paired(share(1), share(0)).high == 1
    assert math.isnan(paired(np.zeros(0, bool), np.zeros(0, bool)).low)
    one = paired(np.array([True]), np.array([False]))
    assert one.low < 0 <= one.high, "one image proves nothing"


@pytest.mark.parametrize(("p", "q"), [(0.3, 0.3), (0.2, 0.05), (0.02, 0.01), (0.9, 0.6)])
def test_the_interval_covers_the_difference(p, q):
    random = np.random.default_rng(0)
    covered, n, tries = 0, 100, 1500
    for _ in range(tries):
        common = random.random(n)  # correlated as two models on the same images are
        a, b = (
            np.where(random.random(n) < 0.5, common, random.random(n)) < rate for rate in (p, q)
        )
        found = paired(a, b)
        covered += found.low <= p - q <= found.high
    assert covered / tries > 0.93


def test_a_check_holds_beyond_noise_only():
    for larger, holds in ((0.10, False), (0.105, False), (0.2, True)):
        check = more_errors("more", {"model": "m"}, ("a", share(larger)), ("b", share(0.1)))
        assert check.holds == holds
        assert (check.row["outcome"] == "agrees") == holds
        assert (check.row["value"], check.row["against"], check.row["n"]) == (
            pytest.approx(larger, abs=1e-3),
            0.1,
            N,
        )
    for value, holds in ((0.5, False), (0.52, False), (0.6, True)):
        wrong = Errors("m", share(0), {"a": share(value)}, {}, {})
        assert more_than("above", wrong, ("a",), 0.5).holds == holds


def errors(
    model: str, own: dict[str, float], met: dict[str, dict[str, float]], clean: float = 0.01
) -> Errors:
    """Errors at these rates."""
    roles = dict.fromkeys(met, HELD_OUT) | {"mine": SAME, "taught": SEEN}
    transferred = {
        (source, attack): share(value)
        for source, attacks in met.items()
        for attack, value in attacks.items()
    }
    transferred |= {
        (source, attack): share(0.99) for source in ("mine", "taught") for attack in ("FGSM", "MIM")
    }
    return Errors(
        model,
        share(clean),
        {attack: share(value) for attack, value in own.items()},
        transferred,
        roles,
    )


def stepped(**changes: float) -> Errors:
    """A model as the paper finds it after FGSM training."""
    own = {"FGSM": 0.05, "R+FGSM": 0.4, "I-FGSM": 0.8, "PGD-20": 0.9}
    met = {"mnist-natural": {"FGSM": 0.2, "MIM": 0.3}, "mnist-pgd": {"FGSM": 0.04, "MIM": 0.25}}
    met["mnist-natural"]["FGSM"] = changes.pop("transferred", 0.2)
    return errors("stepped", own | changes, met)


def ensemble(natural: float = 0.1, pgd: float = 0.1, iterated: float = 0.9) -> Errors:
    """A model as the paper finds it after ensemble training."""
    met = {"mnist-natural": {"FGSM": 0.05, "MIM": natural}, "mnist-pgd": {"FGSM": 0.05, "MIM": pgd}}
    return errors("ensemble", {"FGSM": 0.1, "R+FGSM": 0.2, "I-FGSM": iterated, "PGD-20": 0.3}, met)


def failing(single: Errors, other: Errors) -> list[tuple[str, str | None]]:
    """The first word that tells which claim fails, and the source."""
    made = list(Mnist().of_network(single, [other]))
    assert len(made) == 1 + 1 + 2 + 1
    return [
        (check.claim.partition(":")[2].split()[0], check.cells["source"])
        for check in made
        if not check.holds
    ]


def test_what_the_paper_finds_is_a_reproduction():
    assert failing(stepped(), ensemble()) == []


def test_each_claim_can_fail():
    assert failing(stepped(**{"R+FGSM": 0.06}), ensemble()) == [("R+FGSM", None)]
    assert failing(stepped(transferred=0.05), ensemble()) == [("FGSM", "mnist-natural")]
    assert failing(stepped(), ensemble(natural=0.3)) == [("fewer", "mnist-natural")]
    assert failing(stepped(), ensemble(pgd=0.26)) == [("fewer", "mnist-pgd")]
    assert failing(stepped(), ensemble(iterated=0.5)) == [("iterated", None)]


def test_only_what_is_held_out_counts_as_black_box():
    model = stepped()
    assert model.held_out == ["mnist-natural", "mnist-pgd"]
    assert model.black_box().mean() == pytest.approx(0.3)
    assert model.black_box(["mnist-pgd"]).mean() == pytest.approx(0.25)
    assert model.largest_transfer().mean() == pytest.approx(0.3)
    assert model.white_box().mean() == pytest.approx(0.9)
    assert model.white_box(["FGSM"]).mean() == pytest.approx(0.05)


def test_the_worst_is_taken_image_by_image():
    clean = share(0)
    met = {
        ("s", "FGSM"): np.array([True, False, False, False]),
        ("s", "MIM"): np.array([False, True, False, False]),
    }
    model = Errors("m", clean[:4], {}, met, {"s": HELD_OUT})
    assert model.black_box().tolist() == [True, True, False, False]
    assert model.largest_transfer().sum() == 1
    assert Errors("m", np.array([True, False]), {}, {}, {}).black_box().tolist() == [True, False]


def test_roles_of_sources():
    members = ("tramer-a", "tramer-c", "tramer-d")
    for source, model, expected in (
        ("tramer-b", "tramer-a-fgsm", HELD_OUT),
        ("mnist-pgd", "tramer-a", HELD_OUT),
        ("tramer-b", "tramer-b-ensemble6", SAME),
        ("tramer-a", "tramer-a-fgsm", SAME),
        ("tramer-a", "tramer-a-ensemble12", SEEN),
        ("tramer-c", "tramer-a-ensemble12", SEEN),
        ("tramer-c", "tramer-a-fgsm", SEEN),
    ):
        assert role(source, model, members) == expected
        assert {source, model} <= set(REFERENCES)
