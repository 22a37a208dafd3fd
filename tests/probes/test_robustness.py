import numpy as np
import pytest
import torch
from linear_optimum import OVERSHOOT, ExactSettings, optimum

from centroids import centroids
from scotoma.auditing import audit, make_claim
from scotoma.claim import Stated
from scotoma.execution.run import Run
from scotoma.probes.base import Settings
from scotoma.probes.norms.probe import Norms
from scotoma.probes.robustness.probe import Robustness
from scotoma.probes.robustness.verdict import rule, verdict
from scotoma.probes.transfer.probe import Transfer
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.stats import Rate, rate

THREAT = Threat("linf", 0.02)
L2 = Threat("l2", 0.1)


@pytest.fixture
def truth(grey, linear_grey) -> np.ndarray:
    """Each test image's smallest perturbation, 0 where the model is wrong."""
    images = grey.test.images(torch.arange(len(grey.test)))
    distance, _ = optimum(linear_grey, images, grey.test.labels)
    right = linear_grey(images).argmax(1) == grey.test.labels
    return torch.where(right, distance, 0).double().numpy()


def measure(tmp_path, data, model, settings, threat: Threat = THREAT):
    claim = make_claim(model, data, threat)
    return Robustness().finding(claim, Run(claim, tmp_path / "run"), settings)


def test_the_curve_of_a_linear_model_is_exact(tmp_path, grey, linear_grey, truth):
    finding = measure(tmp_path, grey, linear_grey, ExactSettings())
    curve = finding.tables["curve"]
    assert len(curve) == 61
    assert (curve[0]["eps"], curve[-1]["eps"]) == (0, 0.04)
    assert curve[-1]["robust_accuracy"] < 0.6 < 0.85 < curve[0]["robust_accuracy"]
    for row in curve:
        near = np.abs(truth * (1 + OVERSHOOT) - row["eps"]) < 1e-5
        if row["eps"] == 0 or not near.any():
            assert row["robust_accuracy"] == pytest.approx(
                (truth * (1 + OVERSHOOT) > row["eps"]).mean(), abs=1e-6
            )
    numbers = finding.numbers
    assert numbers["clean_accuracy"] == pytest.approx((truth > 0).mean())
    assert numbers["robust_accuracy"] == pytest.approx((truth > THREAT.eps).mean(), abs=2e-3)
    assert numbers["attack_success"] == pytest.approx(
        (truth[truth > 0] <= THREAT.eps).mean(), abs=2e-3
    )
    assert numbers["median_linf"] == pytest.approx(
        np.quantile(truth, 0.5, method="lower"), rel=2 * OVERSHOOT
    )
    assert numbers["n"] == 500


def test_the_default_attack_finds_nearly_that(tmp_path, grey, linear_grey, truth):
    numbers = measure(tmp_path, grey, linear_grey, Settings()).numbers
    assert numbers["median_linf"] == pytest.approx(np.quantile(truth, 0.5), rel=0.02)
    assert 0 <= numbers["robust_accuracy"] - (truth > THREAT.eps).mean() < 0.01


@pytest.mark.slow
def test_a_claim_in_l2_is_measured_by_the_distances_to_the_nearest_hyperplanes(
    tmp_path, grey, linear_grey
):
    images = grey.test.images(torch.arange(len(grey.test)))
    distance, _ = optimum(linear_grey, images, grey.test.labels, "l2")
    right = linear_grey(images).argmax(1) == grey.test.labels
    truth = torch.where(right, distance, 0).double().numpy()
    for settings, slack in ((ExactSettings(), 2e-3), (Settings(), 0.01)):
        finding = measure(tmp_path, grey, linear_grey, settings, L2)
        numbers = finding.numbers
        assert numbers["median_l2"] == pytest.approx(
            np.quantile(truth, 0.5, method="lower"), rel=0.01
        )
        assert numbers["robust_accuracy"] == pytest.approx((truth > L2.eps).mean(), abs=slack)
        assert numbers["attack_success"] == pytest.approx(
            (truth[truth > 0] <= L2.eps).mean(), abs=slack
        )
        assert 0.1 < numbers["attack_success"] < 0.9
        assert "median_linf" not in numbers
        assert "within L2 0.1" in finding.headline
    sizes = np.linalg.norm(
        (finding.images["examples"][:, 1] - finding.images["examples"][:, 0]).reshape(6, -1), axis=1
    )
    assert (np.diff(sizes) >= 0).all()
    assert sizes[-1] <= L2.eps + 1e-6


def test_examples_go_from_the_smallest_perturbation_to_the_largest(tmp_path, grey, linear_grey):
    finding = measure(tmp_path, grey, linear_grey, ExactSettings())
    images = finding.images["examples"]
    assert images.shape == (6, 3, 1, 8, 8)
    sizes = np.abs(images[:, 1] - images[:, 0]).max((1, 2, 3))
    assert (np.diff(sizes) >= 0).all()
    assert sizes[-1] <= THREAT.eps + 1e-6
    assert images.min() >= 0
    assert images.max() <= 1


@pytest.mark.parametrize(
    ("high", "low", "expected"),
    [
        (0.1499, 0.0, "holds"),
        (0.15, 0.0, "weak"),
        (0.9, 0.5, "weak"),
        (0.9, 0.5001, "broken"),
        (0.4, 0.2, "weak"),
        (0.6, 0.2, "weak"),
        (0.4, 0.1, "weak"),
        (0.6, 0.1, "undecided"),
    ],
)
def test_the_verdict_at_the_edges_of_its_rule(high, low, expected):
    assert verdict(Rate((low + high) / 2, low, high, 100)) == expected


def test_no_images_no_verdict():
    assert verdict(rate(np.zeros(0, bool))) == "not applicable"


@pytest.mark.parametrize("probe", [Robustness, Norms, Transfer])
def test_a_rate_cannot_hold_and_be_broken(probe):
    with pytest.raises(InputError, match=r"holds=0\.9 lies above broken=0\.004"):
        probe(holds=0.9, broken=0.004)
    with pytest.raises(InputError, match=r"broken=2: want a share"):
        probe(broken=2)


def test_the_printed_rule_has_the_digits_of_its_thresholds():
    assert "above 0.4%" in rule(0.001, 0.004)
    assert "below 15%" in rule()


@pytest.mark.parametrize(
    ("stated", "said", "says"),
    [
        (Stated(clean=0.5), "broken", "the worse of the two"),
        (Stated(also=((Threat("linf", 0.001), 0.5),)), "broken", "the worse of the two"),
        (Stated(also=((Threat("l2", 0.001), 0.5),)), "broken", "add the probe norms"),
        (Stated(robust=0.9), "broken", "is refuted"),
    ],
)
def test_an_easy_number_hides_neither_the_threat_nor_a_norm(digits, stated, said, says):
    model = centroids(digits)
    report = audit(
        model, digits, "linf:0.5", probes=["robustness"], attack="pgd", limit=30, stated=stated
    )
    finding = report["robustness"]
    assert finding.numbers["robust_accuracy"] < 0.1, "nearly all are fooled"
    assert finding.verdict == said
    assert says in finding.rule + finding.headline
