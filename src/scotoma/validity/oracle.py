"""Which images are valid: independent classifiers confirm the class, and they look like test data.

Two tests, both calibrated on real test images that no judge was trained on:

* the class is confirmed if at least two of three judges predict it;
* the image is realistic if its distance to the training data, in the features of a judge, is not
  beyond that of nearly all test images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scotoma.data.dataset import Dataset, Sample, Split
from scotoma.execution.run import Run
from scotoma.metrics.neighbours import nearest_distance
from scotoma.models.classifier import Classifier
from scotoma.models.features import features
from scotoma.models.judges import SMALLEST
from scotoma.utils.cache import cached
from scotoma.utils.device import batch_size, default_device
from scotoma.utils.progress import Progress
from scotoma.utils.stats import Rate, rate
from scotoma.validity.judges import trained_judges

LEVEL = 0.01
"""Share of real test images that the test of realism rejects."""
NEIGHBOURS = 5
"""Training images whose mean distance counts, as in Zhang et al. 2019, equation 2."""
FEATURES = -1
"""The judge whose features are used: the one that averages over parts of the image."""
TRAINING = 10_000
"""Most training images among which neighbours are searched."""
ROUNDING = 1e-5
"""Relative difference of distances that count as equal: features depend a little on the batch."""
CALIBRATION = 2_000
"""Most test images that set the threshold, and most that measure what it does."""


class Validity(NamedTuple):
    """What the oracle says of n images, as tensors on the CPU."""

    predictions: Tensor
    """Class of each judge, int64 (n, judges)."""
    confirmed: Tensor
    """Whether the majority of the judges predicts the label, bool (n,)."""
    realism: Tensor
    """Share of real test images that lie as far from the training data or farther, float32 (n,)."""
    valid: Tensor
    """Whether the class is confirmed and realism is above `LEVEL`, bool (n,)."""
    distance: Tensor
    """Distance to the training data in the features of a judge, float64 (n,)."""


class Calibration(NamedTuple):
    """What the oracle does with real test images that set no threshold."""

    accuracies: dict[str, Rate]
    """Accuracy of each judge."""
    unconfirmed: Rate
    """Share whose own label the majority does not confirm."""
    unrealistic: Rate
    """Share that is called unrealistic; about `LEVEL`."""
    rejected: Rate
    """Share that is rejected by either test: the false rejections."""
    mislabelled: Rate
    """Share that is called valid with a wrong label, the one that the judges find likeliest."""

    def __str__(self) -> str:
        lowest = min(each.value for each in self.accuracies.values())
        return (
            f"The oracle rejects {self.rejected.value:.1%} of {self.rejected.n} real test images "
            f"({self.rejected.low:.1%}–{self.rejected.high:.1%}): the majority of "
            f"{len(self.accuracies)} independent networks (accuracy {lowest:.1%} or more each) "
            f"does not confirm the label of {self.unconfirmed.value:.1%}, and "
            f"{self.unrealistic.value:.1%} lie too far from the training data. With the likeliest "
            f"wrong label it accepts {self.mislabelled.value:.1%}."
        )


def majority(predictions: Tensor, labels: Tensor) -> Tensor:
    """Return whether more than half of the judges predict the label, bool (n,).

    A single judge errs on some images. Two networks of different kinds rarely err on one image in
    favour of the same class. Unanimity would reject every image that one of them gets wrong.

    Args:
        predictions: int64 (n, judges).
        labels: int64 (n,).

    >>> majority(torch.tensor([[1, 1, 7], [1, 7, 3]]), torch.tensor([1, 1])).tolist()
    [True, False]
    """
    return (predictions == labels[:, None]).sum(1) * 2 > predictions.shape[1]


def realism(distances: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the share of reference distances that are at least as large, float32 (n,).

    This is the p-value of a one-sided test against the reference, the image itself counted.

    Args:
        distances: (n,).
        reference: (m,), of real images.

    >>> realism(np.array([0.5, 9.0]), np.array([1.0, 2.0, 3.0])).tolist()
    [1.0, 0.25]
    """
    ascending = np.sort(reference)
    farther = len(ascending) - np.searchsorted(ascending, distances * (1 - ROUNDING), side="left")
    return ((1 + farther) / (1 + len(ascending))).astype(np.float32)


class ValidityOracle:
    """Judges of one data set, and the distances that real test images have in their features.

    Args:
        judges: classifiers that differ from the audited model.
        train: features of training images in the judge `FEATURES`, float32 (n, d).
        reference: distances of real test images to them, (m,).

    `calibration`, what it does with other test images, is known once it is `fitted`.
    """

    calibration: Calibration

    def __init__(self, judges: Sequence[Classifier], train: np.ndarray, reference: np.ndarray):
        self.judges, self.train, self.reference = tuple(judges), train, reference

    @classmethod
    def fitted(
        cls, data: Dataset, folder: Path, *, seed: int = 0, progress: Progress | None = None
    ) -> ValidityOracle:
        """Return the oracle of a data set: its judges trained or read, and calibrated.

        Half of the test images, at most `CALIBRATION`, set the threshold of realism; as many others
        measure what the oracle rejects. Changes such as contrast need no threshold of their own,
        since the features come from a network that was trained on images with such changes.

        Args:
            data: with a training split.
            folder: where the judges are kept.
            seed: seed of the judges and of the draws.
            progress: where training is shown.
        """
        assert data.train is not None
        judges = trained_judges(data, folder, seed, progress)
        for judge in judges:
            judge.module.to(default_device())
        train = _features(judges[FEATURES], Sample(data.train, TRAINING, seed))
        test = Sample(data.test, 2 * CALIBRATION, seed)
        # drawn anew: a sample is in the order of the split, which may be the order of the classes
        order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed + 1))
        first, second = order.tensor_split(2)
        reference = nearest_distance(train, _features(judges[FEATURES], test, first), NEIGHBOURS)
        oracle = cls(judges, train, reference)
        oracle.calibration = oracle._calibrate(test.images(second), test.labels[second])
        return oracle

    def judge(self, images: Tensor, labels: Tensor) -> Validity:
        """Judge images.

        Args:
            images: (n, c, h, w) in [0, 1], on any device.
            labels: the class that each is to show, int64 (n,).
        """
        labels = labels.cpu()
        predictions = self._logits(images).argmax(2)
        confirmed = majority(predictions, labels)
        embedded = torch.cat([_read(self.judges[FEATURES], batch) for batch in _batches(images)])
        distances = nearest_distance(self.train, embedded.numpy(), NEIGHBOURS)
        likely = torch.from_numpy(realism(distances, self.reference))
        valid = confirmed & (likely > LEVEL)
        return Validity(predictions, confirmed, likely, valid, torch.from_numpy(distances))

    def _logits(self, images: Tensor) -> Tensor:
        """Return the judges' log-probabilities, (n, judges, classes)."""
        logits = []
        with torch.no_grad():
            for part in _batches(images):
                batch = part.to(default_device())
                outputs = [judge.module(batch).float().cpu() for judge in self.judges]
                logits.append(torch.stack(outputs, 1))
        return torch.cat(logits).log_softmax(2)

    def _calibrate(self, images: Tensor, labels: Tensor) -> Calibration:
        validity = self.judge(images, labels)
        likeliest = self._logits(images).mean(1).scatter(1, labels[:, None], -torch.inf).argmax(1)
        mislabelled = majority(validity.predictions, likeliest) & (validity.realism > LEVEL)
        names = [judge.name for judge in self.judges]
        correct = (validity.predictions == labels[:, None]).numpy()
        return Calibration(
            {name: rate(correct[:, number]) for number, name in enumerate(names)},
            rate(~validity.confirmed.numpy()),
            rate((validity.realism <= LEVEL).numpy()),
            rate(~validity.valid.numpy()),
            rate(mislabelled.numpy()),
        )


_ORACLES: dict[str, ValidityOracle] = {}
"""The oracle of the last data, by their hash."""


def oracle_for(run: Run) -> ValidityOracle | None:
    """Return the oracle of a run's data, made once for all probes of a process.

    None where there is no training split to train judges on, or the images are too small for them.
    """
    data = run.claim.data
    if data.train is None or min(data.shape[1:]) < SMALLEST:
        return None
    if data.sha256 not in _ORACLES:
        with run.seeded():
            folder = cached("judges", run.store.folder)
            oracle = ValidityOracle.fitted(data, folder, progress=run.progress)
        _ORACLES.clear()
        _ORACLES[data.sha256] = oracle
    return _ORACLES[data.sha256]


def _batches(images: Tensor) -> tuple[Tensor, ...]:
    return images.split(batch_size(default_device(), images[:1].numel()))


def _features(judge: Classifier, split: Split, rows: Tensor | None = None) -> np.ndarray:
    """Return features of images of a split, float32 (n, d)."""
    rows = torch.arange(len(split)) if rows is None else rows
    size = batch_size(default_device(), split.images(rows[:1]).numel())
    return torch.cat([_read(judge, split.images(part)) for part in rows.split(size)]).numpy()


def _read(judge: Classifier, images: Tensor) -> Tensor:
    return features(judge.module, images.to(default_device())).cpu()
