"""Logits that are not finite on attacked images: no success, and no evidence for the model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import scotoma
from centroids import centroids
from scotoma.attacks.pgd import PGD
from scotoma.auditing import make_claim
from scotoma.claims.gate import gate
from scotoma.claims.rules import parse
from scotoma.execution.records import UNDEFINED, undefined
from scotoma.execution.run import Run

LEVELS = 16
"""Grey levels of the digits."""


class Refusing(nn.Module):
    """A network without an answer to images that are not on the grid of levels of the data."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        values = images.flatten(1) * LEVELS
        odd = (values.round() - values).abs().amax(1) > 1e-3
        return self.network(images).masked_fill(odd[:, None], torch.nan)


@pytest.fixture
def refusing(digits) -> nn.Module:
    return Refusing(centroids(digits)).eval()


def test_an_attack_that_meets_no_logits_says_so(tmp_path, digits, refusing):
    run = Run(make_claim(refusing, digits, "linf:0.1"), tmp_path, limit=20)
    frame = run.attack(PGD("linf:0.1", steps=3))
    right = frame.filter(frame["prediction"] == frame["label"])
    assert len(right)
    assert not right["success"].any()
    assert set(right["adversarial_prediction"]) == {UNDEFINED}
    assert undefined(run.records).tolist() == right["index"].sort().to_list()
    sound = Run(make_claim(centroids(digits), digits, "linf:0.1"), tmp_path / "sound", limit=20)
    assert UNDEFINED not in set(sound.attack(PGD("linf:0.1", steps=3))["adversarial_prediction"])


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("attack", ["strong", "pgd"])
def test_a_model_without_logits_near_images_is_not_called_robust(digits, refusing, attack: str):
    report = scotoma.audit(
        refusing, digits, "linf:0.1", probes=["robustness"], limit=40, attack=attack
    )
    finding = report["robustness"]
    assert finding.numbers["robust_accuracy"] == finding.numbers["clean_accuracy"] > 0.5
    assert finding.verdict == "undecided"
    assert "returns NaN or infinite logits on images that attacks tried" in finding.notes[0]
    assert gate(report, [parse("robust_accuracy >= 0.1")]).result == "undecided"


@pytest.mark.usefixtures("undrawn")
def test_all_probes_report_on_a_model_without_logits_near_images(digits, refusing):
    probes = ["robustness", "masking"]
    report = scotoma.audit(refusing, digits, "linf:0.1", probes=probes, limit=10, attack="pgd")
    assert report["masking"].verdict == "broken"
    assert any(row["loss"] is None for row in report["masking"].tables["wide"])
