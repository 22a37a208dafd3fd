"""How long an audit takes, said beforehand."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from centroids import centroids
from scotoma.auditing import make_claim
from scotoma.execution.effort import Effort, Pass, time_pass
from scotoma.execution.run import Run
from scotoma.probes import PROBES, forecast
from scotoma.probes.forecast import Forecast


class Slow(nn.Module):
    """A network whose passes take a known time."""

    def __init__(self, network: nn.Module, pause: float):
        super().__init__()
        self.network, self.pause = network, pause

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        time.sleep(self.pause)
        return self.network(images)


@pytest.fixture
def run(digits, tmp_path) -> Run:
    slow = Slow(centroids(digits), 0.02)
    return Run(make_claim(slow, digits, "linf:0.05"), tmp_path, limit=20)


def test_a_pass_is_timed(run):
    forward, backward = (time_pass(run, run.indices, gradient) for gradient in (False, True))
    assert 0.02 / 20 <= forward.wall < 0.2 / 20
    assert backward.wall >= 0.02 / 20
    assert forward.work < forward.wall, "while it sleeps no processor works"


def test_the_whole_is_the_sum_and_grows_with_the_images(run, monkeypatch):
    times = {False: Pass(0.001, 0.001), True: Pass(0.003, 0.003)}
    monkeypatch.setattr(forecast, "time_pass", lambda run, indices, gradient: times[gradient])
    few = forecast.forecast(run, list(PROBES))
    many = forecast.forecast(run.subset(torch.arange(200)), list(PROBES))
    assert set(few.seconds) == set(PROBES)
    assert few.total == pytest.approx(sum(few.seconds.values()))
    assert few.seconds["robustness"] == pytest.approx(20 * (0.6 + 1.47))
    assert many.seconds["norms"] == pytest.approx(10 * few.seconds["norms"])
    alone = forecast.forecast(run, ["masking"])
    assert few.thorough is None, "it takes all passes already"
    assert alone.total > few.seconds["masking"], "alone it runs the audit attack itself"


def test_a_slow_model_is_given_fewer_passes_and_the_forecast_says_both(run):
    whole = forecast.forecast(run, list(PROBES), Effort())
    scaled = forecast.forecast(run, list(PROBES), Effort(0.25))
    assert scaled.thorough is not None
    assert scaled.total < 0.7 * scaled.thorough
    assert scaled.seconds["norms"] < 0.5 * whole.seconds["norms"]
    assert "With all passes (--thorough) about" in str(scaled)
    assert [line.split()[0] for line in scaled.lines()][-3:] == ["--thorough", "together", "a"]


def test_a_dry_run_measures_nothing(scotoma, tmp_path):
    ended = scotoma(
        "audit", forecast_model(), "--data", "digits", "--threat", "linf:0.1", "--limit", "30",
        "--probes", "robustness,norms", "--out", tmp_path / "run", "--dry-run",
    )  # fmt: skip
    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines()] == [
        "robustness", "norms", "together", "a",
    ]  # fmt: skip
    assert "about" in ended.out
    assert not (tmp_path / "run").exists()


def test_a_dry_run_with_an_unknown_probe_is_one_line(scotoma):
    ended = scotoma(
        "audit", forecast_model(), "--data", "digits", "--threat", "linf:0.1", "--probes", "norm",
        "--dry-run",
    )  # fmt: skip
    assert ended.code == 2
    assert "norms" in ended.err


def forecast_model() -> str:
    from scotoma.demo import MODEL

    return str(MODEL)


def test_seconds_are_rounded_as_the_forecast_is():
    text = str(Forecast({"norms": 4321.0, "masking": 34.0}, 50, 0.001, 0.003))
    assert text == "About 73 min for 50 images: norms 72 min, masking 30 s."
