"""The training log: what is measured, and when overfitting is named."""

from __future__ import annotations

import pytest
import torch

from scotoma.threat import Threat
from scotoma.training.evaluation import Evaluation, evaluate, overfitting

THREAT = Threat("linf", 0.1)


def line(robust: float, single: float) -> Evaluation:
    return Evaluation(0.95, robust, single, 0.9, 0.8)


@pytest.mark.parametrize(
    ("earlier", "last", "named"),
    [
        ([(0.3, 0.5), (0.4, 0.55)], (0.01, 0.8), True),
        ([(0.3, 0.5), (0.4, 0.55)], (0.19, 0.45), True),
        ([(0.3, 0.5), (0.4, 0.55)], (0.35, 0.8), False),  # still robust
        ([(0.3, 0.5), (0.4, 0.55)], (0.01, 0.1), False),  # it has lost both: something else
        ([(0.05, 0.5)], (0.0, 0.9), False),  # there was hardly anything to lose
        ([], (0.0, 0.9), False),
    ],
)
def test_catastrophic_overfitting_is_named(earlier, last, named):
    told = overfitting([line(*each) for each in earlier], line(*last))
    assert (told is not None) is named
    if told:
        assert "from 40.0%" in told
        assert f"to {last[0]:.1%}" in told


def test_a_linear_model_is_linear(digits, linear):
    state = torch.get_rng_state()
    found = evaluate(linear, digits.test, THREAT, torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        right = (
            (
                linear(digits.test.images(torch.arange(len(digits.test)))).argmax(1)
                == digits.test.labels
            )
            .float()
            .mean()
            .item()
        )
    assert found.accuracy == pytest.approx(right, abs=1e-6)
    assert found.robust_accuracy is not None
    assert found.single_step_accuracy is not None
    assert found.robust_accuracy <= found.single_step_accuracy < found.accuracy
    assert found.single_step_accuracy - found.robust_accuracy < 0.1
    assert found.loss_ratio == pytest.approx(1, abs=0.05)
    assert found.cosine == pytest.approx(1, abs=0.1)
