"""The validity oracle: the majority, the p-value of realism, and judges trained on the digits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scotoma.claim import Claim
from scotoma.execution.run import Run
from scotoma.models.checkpoint import save_checkpoint
from scotoma.models.loading import load_model
from scotoma.threat import Threat
from scotoma.utils.progress import Silent
from scotoma.validity import ARCHITECTURES, Validity, ValidityOracle, judges, oracle_for
from scotoma.validity.oracle import LEVEL, majority, realism


@pytest.fixture(scope="module")
def judging(digits, tmp_path_factory) -> ValidityOracle:
    folder = tmp_path_factory.mktemp("cache") / "judges"  # those of the package
    return ValidityOracle.fitted(digits, folder, progress=Silent())


def test_more_than_half_of_the_judges_confirm_a_label():
    votes = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 2, 3]])
    assert majority(votes, torch.zeros(4, dtype=torch.int64)).tolist() == [True, True, False, False]
    tied = torch.tensor([[0, 1]])
    assert not majority(tied, torch.tensor([0])).item(), "half is no majority"


def test_realism_is_the_rank_among_the_reference_distances():
    reference = np.arange(99.0)
    assert realism(np.array([-1.0, 98.0, 98.5, 49.0]), reference).tolist() == pytest.approx(
        [1.0, 0.02, 0.01, 0.51]
    )


def test_real_images_are_valid_and_wrong_labels_and_shuffled_pixels_are_not(judging, digits):
    images, labels = digits.test.images(torch.arange(500)), digits.test.labels
    real = judging.judge(images, labels)
    assert real.valid.float().mean() > 0.95
    assert not judging.judge(images, (labels + 1) % 10).confirmed.float().mean() > 0.02
    shuffled = images.flatten(1)[:, torch.randperm(64, generator=torch.Generator().manual_seed(0))]
    noise = judging.judge(shuffled.view_as(images), labels)
    assert (noise.realism <= LEVEL).float().mean() > 0.3
    assert noise.valid.float().mean() < 0.05
    assert torch.equal(real.valid, real.confirmed & (real.realism > LEVEL))


def test_contrast_and_background_leave_an_image_valid(judging, digits):
    images, labels = digits.test.images(torch.arange(500)), digits.test.labels
    assert judging.judge(images * 0.7 + 0.3, labels).valid.float().mean() > 0.9


def test_an_image_is_judged_alike_in_any_batch(judging, digits):
    images, labels = digits.test.images(torch.arange(20)), digits.test.labels[:20]
    together = judging.judge(images, labels)
    alone = [judging.judge(image[None], labels[row : row + 1]) for row, image in enumerate(images)]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        assert torch.allclose(whole.float(), torch.cat(parts).float(), atol=1e-6)


def test_the_rates_of_the_calibration_are_those_of_images_that_set_no_threshold(judging, digits):
    rates = judging.calibration
    assert len(rates.accuracies) == len(ARCHITECTURES)
    assert rates.rejected.n == len(digits.test) // 2 == len(judging.reference)
    assert max(rates.unconfirmed.value, rates.unrealistic.value) <= rates.rejected.value < 0.08
    assert rates.mislabelled.value < 0.03
    assert f"rejects {rates.rejected.value:.1%}" in str(rates)


def test_judges_come_from_the_folder_the_second_time(judging, digits, monkeypatch, tmp_path):
    made = []

    def copy(data, arch, out, *rest) -> None:
        judge = judging.judges[ARCHITECTURES.index(arch)]
        save_checkpoint(out, judge.module, judge.card, torch.float16)
        made.append(arch)

    monkeypatch.setattr(judges, "_train", copy)
    first = judges.trained_judges(digits, tmp_path, progress=Silent())
    second = judges.trained_judges(digits, tmp_path, progress=Silent())
    assert made == list(ARCHITECTURES) == [each.name for each in second]
    assert [each.sha256 for each in first] == [each.sha256 for each in second]
    assert len(judges.trained_judges(digits, tmp_path, seed=1, progress=Silent())) == len(made) - 3


def test_a_run_without_training_images_has_no_oracle(digits, linear, tmp_path):
    claim = Claim(load_model(linear), replace(digits, train=None), Threat("linf", 0.1))
    assert oracle_for(Run(claim, tmp_path / "run")) is None


def test_a_verdict_has_one_entry_an_image(judging, digits):
    validity = judging.judge(digits.test.images(torch.arange(3)), digits.test.labels[:3])
    assert isinstance(validity, Validity)
    assert [len(each) for each in validity] == [3] * 5
