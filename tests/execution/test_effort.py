"""Slow models are given fewer passes, the same in every continuation of a run."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

import scotoma
from centroids import centroids
from scotoma.attacks.strong import Strong
from scotoma.auditing import make_claim
from scotoma.execution import effort
from scotoma.execution.effort import WHOLE, Effort, find_effort, scaled
from scotoma.execution.fingerprint import describe, name
from scotoma.execution.run import Run
from scotoma.probes import PROBES
from scotoma.probes.masking.probe import Masking
from scotoma.probes.norms.probe import Norms


class Busy(nn.Module):
    """A network whose passes take a known time of the processor."""

    def __init__(self, network: nn.Module, seconds: float):
        super().__init__()
        self.network, self.seconds = network, seconds

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        end = time.process_time() + self.seconds * len(images)
        while time.process_time() < end:
            pass
        return self.network(images)


@pytest.mark.parametrize(
    ("milliseconds", "share"),
    [(0.1, 1), (10, 1), (14, 1), (15, 0.5), (28, 0.5), (40, 0.25), (80, 0.125), (5000, 1 / 16)],
)
def test_the_share_is_a_power_of_two(milliseconds, share):
    assert Effort.for_pass(milliseconds / 1000).share == share


@pytest.mark.parametrize("probe", PROBES)
def test_a_quick_model_changes_no_option(probe):
    default = PROBES[probe]()
    same, texts = default.within(WHOLE)
    assert same is default
    assert texts == []


@pytest.mark.parametrize("share", [0.5, 0.25, 0.125, 1 / 16])
@pytest.mark.parametrize("probe", ["norms", "inequality", "masking", "generated"])
def test_options_are_scaled_down_to_their_least(probe, share):
    default = PROBES[probe]()
    smaller, texts = default.within(Effort(share))
    assert texts
    for option, least in default.leasts.items():
        full = least.full or getattr(default, option)
        assert min(full, least.value) <= getattr(smaller, option) <= full


def test_what_the_user_has_set_stays():
    probe, texts = Norms(queries=900, attacks={"l0": ("pointwise",)}).within(Effort(1 / 16))
    assert probe.queries == 900
    assert probe.attacks == {"l0": ("pointwise",)}
    assert texts == [
        "40 of 100 steps of each attack by gradients",
        "33 of 100 draws of each attack by noise",
        "no reverting of pixels at the end of sigma-zero",
    ]
    smaller, _ = scaled(Masking(lines=20), Masking.leasts, Effort(0.25))
    assert smaller == {"planes": 6, "lines": 8}


def test_a_share_is_named_only_where_there_is_one():
    whole, half = Strong("linf:0.1", look=False), Strong("linf:0.1", look=False, share=0.5)
    assert name(whole) == "Strong(threat=Threat(norm='linf', eps=0.1), until=0.0, look=False)"
    assert name(half).endswith("look=False, share=0.5)")
    assert "share" not in describe(whole)
    assert describe(half)["share"] == 0.5
    assert half.scaled == [
        "4 of 9 targets of APGD",
        "1,000 of 2,000 queries of random search",
        "2 of 5 random starts of APGD",
    ]


def test_a_run_continues_with_the_effort_that_it_found(digits, tmp_path, monkeypatch):
    claim = make_claim(centroids(digits), digits, "linf:0.05")
    monkeypatch.setattr(effort.Effort, "for_pass", lambda seconds: Effort(0.25))
    run = Run(claim, tmp_path, limit=10)
    assert find_effort(run).share == 0.25
    monkeypatch.setattr(effort.Effort, "for_pass", lambda seconds: Effort(1.0))
    assert find_effort(run).share == 0.25
    assert find_effort(Run(claim, tmp_path, limit=20)).share == 0.25, "more images are no reason"
    assert find_effort(run, thorough=True).whole


@pytest.mark.usefixtures("undrawn")
def test_the_report_of_a_slow_model_says_what_was_scaled(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(effort, "QUICK", 0.0005)
    slow = Busy(centroids(digits), 0.001 * torch.get_num_threads())
    options = {"probes": ["robustness"], "limit": 2, "out": tmp_path / "run"}
    report = scotoma.audit(slow, digits, "linf:0.05", **options)
    share = report.provenance["effort"]["share"]
    assert share in (0.25, 0.5)
    note = report["robustness"].notes[-1]
    assert note.startswith("Scaled, because a pass with its gradient takes ")
    assert f"{share * 2000:,.0f} of 2,000 queries of random search" in note
    assert "--thorough" in note
    thorough = scotoma.audit(slow, digits, "linf:0.05", **options, thorough=True)
    assert "effort" not in thorough.provenance
    assert "Scaled" not in " ".join(thorough["robustness"].notes)
    assert "thorough=True" in thorough.provenance["command"]
