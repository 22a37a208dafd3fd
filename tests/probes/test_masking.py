"""The masking probe on models of which it is known whether their gradients lie."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from masked_models import GradientKiller, QuantisedInput, Randomised, Rippled, Temperature

import scotoma
from coarse import coarse, hasty
from once import barely_tested, once
from scotoma.data.dataset import ArraySplit
from scotoma.models import classifier
from scotoma.models.loading import load_model
from scotoma.probes.masking import probe
from scotoma.probes.masking.checks import Check, at_least, never_falls, not_behind
from scotoma.probes.masking.probe import Masking
from scotoma.reference import ZOO
from scotoma.report import publishing
from scotoma.report.publishing import draw
from scotoma.results.report import read_report
from scotoma.threat import Threat
from scotoma.training.loop import Schedule, train

THREAT = "linf:0.2"
LIMIT = 30


def naturally(digits, arch: str, schedule: Schedule) -> str:
    """A file with a network of the digits after natural training."""
    few, threat = barely_tested(digits), Threat.parse(THREAT)
    return str(
        once(
            f"{arch}-{schedule.epochs}-natural.safetensors",
            lambda path: train("natural", few, arch, threat, path, schedule=schedule),
        )
    )


@pytest.fixture(scope="module")
def others(digits) -> list[str]:
    """Two small networks to make examples on."""
    return [naturally(digits, arch, Schedule(4, 64, 4e-3)) for arch in ("wong-small", "tramer-d")]


@pytest.fixture(scope="module")
def natural(digits) -> str:
    return naturally(digits, "tramer-d", Schedule(6, 64, 2e-3))


@pytest.fixture
def ask(digits, others, tmp_path, monkeypatch):
    """The finding on a model. No report is drawn of it."""
    monkeypatch.setattr(publishing, "draw", read_report)

    def ask(
        model,
        data=digits,
        threat=THREAT,
        sources=others,
        limit=LIMIT,
        attack="fgsm",
        force=False,
    ):
        options = {"out": tmp_path / "run", "limit": limit, "attack": attack, "force": force}
        return scotoma.audit(model, data, threat, probes=[Masking(sources)], **options)["masking"]

    return ask


@pytest.fixture(name="coarse")
def _coarse(monkeypatch):
    coarse(monkeypatch)


@pytest.fixture
def hardly_searched(monkeypatch):
    """Little random search: for tests whose answer other attacks give."""
    monkeypatch.setattr(probe, "QUERIES", 20)


def failed(finding) -> set[str]:
    return {row["check"] for row in finding.tables["checks"] if not row["passed"]}


REACHES = "A gradient reaches the image"
BEHIND_SEARCH = "Gradients fool the images that random search fools"
BEHIND_OTHERS = "Its own gradient fools the images that other models' examples fool"
OWN = "Steps inside the ball fool most images that the audit attack fools"
WHOLE = "At eps 1 every image is fooled"


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (GradientKiller, {REACHES, BEHIND_SEARCH, BEHIND_OTHERS, WHOLE}),
        (QuantisedInput, {REACHES, BEHIND_SEARCH, BEHIND_OTHERS, WHOLE}),
        (Temperature, {"The loss has a gradient where the margin has one"}),
        (Rippled, {BEHIND_SEARCH, BEHIND_OTHERS}),
    ],
)
@pytest.mark.usefixtures("coarse")
def test_what_hides_a_gradient_is_named(ask, natural, mask, told):
    images = 60 if mask is Rippled else LIMIT  # a ripple hides the gradient of some images only
    named(ask(mask(load_model(str(natural)).module), limit=images), told)


@pytest.mark.slow
@pytest.mark.usefixtures("coarse", "hardly_searched")
def test_another_gradient_at_every_look_is_named(ask, natural, monkeypatch):
    monkeypatch.setattr(classifier, "DRAWS", 2)
    noisy = Randomised(load_model(str(natural)).module)
    named(ask(noisy), {"The same image has the same gradient twice"})


def named(finding, told: set[str]) -> None:
    assert finding.numbers["masked"] is True
    assert finding.verdict == "broken"
    assert told <= failed(finding)
    assert "mislead attacks" in finding.headline


@pytest.mark.slow
@pytest.mark.usefixtures("coarse")
def test_what_hides_a_gradient_is_named_in_l2(ask, natural):
    finding = ask(GradientKiller(load_model(str(natural)).module), threat="l2:0.6", limit=60)
    assert finding.verdict == "broken"
    assert {REACHES, BEHIND_SEARCH, "At eps 8 every image is fooled"} <= failed(finding)


@pytest.mark.slow
def test_a_ripple_is_named_in_l2(ask, digits):
    rippled = Rippled(load_model(naturally(digits, "small-cnn", Schedule(8, 64, 3e-3))).module)
    finding = ask(rippled, threat="l2:0.6", limit=60)
    assert finding.verdict == "broken"
    assert "At eps 8 every image is fooled" in failed(finding)


@pytest.mark.usefixtures("coarse")
def test_a_natural_model_does_not_hide_it_in_l2(ask, natural):
    assert failed(ask(str(natural), threat="l2:0.6", attack="strong")) == set()


@pytest.mark.parametrize("scale", [1.0, pytest.param(1e-3, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("coarse")
def test_a_natural_model_does_not_hide_it(ask, natural, scale):
    finding = ask(Temperature(load_model(str(natural)).module, scale), attack="min-linf")
    assert failed(finding) == set()
    assert finding.numbers["masked"] is False
    assert finding.verdict in ("holds", "weak")


@pytest.mark.usefixtures("coarse")
def test_nor_does_a_pgd_trained_one(ask, digits_model):
    finding = ask(str(digits_model), threat="linf:0.1", attack="strong")
    assert failed(finding) == set()
    assert finding.numbers["masked"] is False
    assert finding.numbers["loss_ratio"] > 0.8
    assert finding.numbers["cosine"] > 0.5


@pytest.mark.slow
def test_fgsm_training_hides_it(digits, ask, tmp_path):
    """The paper's degenerate minimum: a network that withstands hardly any step but its own."""
    path = tmp_path / "fgsm.safetensors"
    few = replace(
        digits,
        test=ArraySplit(
            digits.test.images(torch.arange(10)).numpy(), digits.test.labels[:10].numpy(), "few"
        ),
    )
    train("fgsm", few, "tramer-d", Threat("linf", 0.3), path, schedule=Schedule(40, 64, 4e-3))
    finding = ask(str(path), threat="linf:0.3", limit=60)
    assert finding.numbers["masked"] is True
    assert "A gradient step raises the loss more than a random one" in failed(finding)
    success = {row["attack"]: row["success"] for row in finding.tables["attacks"]}
    assert success["single step"] + 0.1 < success["random step first"] < success["many restarts"]
    assert success["many restarts"] > 0.9


@pytest.mark.usefixtures("coarse")
def test_fgsm_training_hides_it_on_mnist(mnist, ask):
    """The paper's degenerate minimum, in the reference network D of dense layers."""
    finding = ask(
        str(ZOO / "tramer-d-fgsm.safetensors"),
        mnist,
        "linf:0.3",
        [str(ZOO / "tramer-b.safetensors")],
        limit=40,
    )
    assert finding.numbers["masked"] is True
    assert "A random step first does not help a single step" in failed(finding)
    assert finding.numbers["loss_ratio"] < 0.3


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize(
    ("name", "attack"),
    [
        ("tramer-d", "min-linf"),
        pytest.param("mnist-small-pgd-03", "min-linf", marks=pytest.mark.slow),
        pytest.param("mnist-pgd", "min-linf", marks=pytest.mark.slow),
        pytest.param("mnist-pgd", "strong", marks=pytest.mark.slow),
    ],
)
def test_mnist_networks_that_do_not(mnist, ask, name, attack):
    finding = ask(
        str(ZOO / f"{name}.safetensors"),
        mnist,
        "linf:0.3",
        [str(ZOO / "tramer-b.safetensors")],
        limit=10,
        attack=attack,
    )
    assert failed(finding) == set()


@pytest.mark.slow
@pytest.mark.usefixtures("coarse", "hardly_searched")
def test_training_in_another_norm_leaves_a_ball_that_is_flat_inside(mnist, ask):
    """Trained at L-inf 0.3: steps in L2 1.5 fool few, a search from outside half of all images."""
    finding = ask(
        str(ZOO / "mnist-pgd.safetensors"),
        mnist,
        "l2:1.5",
        [str(ZOO / "tramer-b.safetensors")],
        16,
        "min-l2",
    )
    assert OWN in failed(finding)
    assert finding.verdict == "broken"


@pytest.mark.slow
def test_what_is_written(ask, natural, tmp_path, monkeypatch):
    hasty(monkeypatch)
    killed = GradientKiller(load_model(str(natural)).module)
    finding = ask(killed, limit=20, attack="strong")
    checks = {row["check"]: row for row in finding.tables["checks"]}
    assert len(checks) == finding.numbers["checks"] == 13
    n = finding.numbers["n"]
    reaches = checks[REACHES]
    assert (reaches["failures"], reaches["n"]) == (n, n)
    assert finding.numbers["zero_gradients"] == n
    assert finding.numbers["cosine"] is None, "no perturbation, no angle"
    success = {row["attack"]: row["success"] for row in finding.tables["attacks"]}
    assert success["single step"] == 0
    assert success["iterated"] < 0.1, "only a random start finds anything"
    assert success["many restarts"] < 0.15, "nor do more of them"
    assert success["random search"] > 0.3
    assert success["the audit's own"] > 0.3, "it ends with random search"
    assert not checks[OWN]["passed"]
    assert success["transferred"] >= success["transferred single step"] > 0
    assert [row["k"] for row in finding.tables["subspace"]] == list(range(1, 65)), (
        "64 pixels have no room for 100 directions"
    )
    assert len(finding.tables["wide"]) == len(finding.tables["close"]) == 41**2
    json.dumps(finding.tables, allow_nan=False)
    report = draw(tmp_path / "run")
    page = report.html.read_text()
    assert "Do masked gradients mislead the attack?" in page
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


@pytest.mark.usefixtures("coarse")
@pytest.mark.slow
def test_without_other_models_two_checks_are_left_out(natural, digits, tmp_path):
    alone = replace(digits, train=None)
    finding = scotoma.audit(
        str(natural), alone, THREAT, out=tmp_path / "run", probes=["masking"], limit=15
    )["masking"]
    assert finding.numbers["checks"] == 11
    assert any("option sources" in note for note in finding.notes)


def test_a_model_that_is_always_wrong(ask, digits):
    class Wrong(torch.nn.Module):
        def forward(self, images):
            return (
                torch.zeros(len(images), 11).index_fill(1, torch.tensor([10]), 1.0)
                + 0 * images.sum()
            )

    finding = ask(Wrong(), force=True)
    assert finding.verdict == "not applicable"


def test_shares_and_their_rules():
    n = 200

    def mask(k: int) -> np.ndarray:
        return np.arange(n) < k

    assert Check("a", mask(15)).passed, "7.5% of 200 may be 5%"
    assert Check("a", mask(15)).notable
    assert not Check("a", mask(24)).passed
    assert Check("a", mask(0)).passed
    assert not Check("a", mask(0)).notable
    ahead = not_behind("a", gradient=mask(100), other=mask(60))
    assert ahead.share.value == pytest.approx(-0.2)
    assert ahead.passed
    assert not ahead.notable
    behind = not_behind("a", gradient=mask(40), other=mask(100))
    assert behind.share.value == pytest.approx(0.3)
    assert not behind.passed
    assert not_behind("a", gradient=mask(60), other=mask(100)).passed, "20% of 200 may be 15%"
    even = not_behind("a", gradient=mask(100), other=~mask(100))
    assert even.share.value == 0
    assert even.share.high == pytest.approx(1.96 / n**0.5, abs=1e-3), (
        "every pair speaks, half for each side"
    )
    assert at_least("a", strong=mask(50), weak=mask(40)).failing.sum() == 0
    assert at_least("a", strong=mask(40), weak=mask(50)).failing.sum() == 10
    falls = never_falls("a", [mask(10), mask(30), mask(20)])
    assert falls.failing.tolist() == ((np.arange(n) >= 20) & (np.arange(n) < 30)).tolist()
