"""Does a model classify more images correctly than chance, and if not, what is the cause?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from scotoma.data.dataset import Dataset, Sample
from scotoma.models.black_box import Function
from scotoma.models.checking import device
from scotoma.models.classifier import Classifier
from scotoma.utils.errors import InputError
from scotoma.utils.random import own_numbers

IMAGES = 100
"""Test images that are evaluated."""
NOTED = 60
"""Test images on which a model that is better than chance is tried with other pixels."""
BATCH = 16
"""Images in a pass, so that a large network at 224x224 needs little memory."""
ENOUGH = 50
"""Images from which a test decides; with fewer only the numbers themselves are compared."""
SHUFFLES, LEVEL = 1000, 0.05
"""Shuffles of the labels, and the share of them that may be as good as the labels themselves."""
CLEARLY, FEWEST = 0.2, 3
"""Share and number of images by which another reading of the pixels must be ahead."""
SCALES = {
    "in [0, 255]": (0.0, 1 / 255),
    "in [-1, 1]": (0.5, 0.5),
    "normalised as for ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "normalised as for CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
    "normalised as for MNIST": ((0.1307,), (0.3081,)),
}
"""Usual means and standard deviations of pixels, by what becomes of the pixels."""


@dataclass(frozen=True)
class Diagnosis:
    """How many images a model classifies correctly, and what would raise the number.

    Args:
        correct: images that it classifies correctly, of `images`.
        images: number of images.
        chance: number that it would classify correctly on average if its predictions had nothing
            to do with the labels.
        at_chance: whether it is no better than that.
        scales: number that it classifies correctly with pixels of another scale or order.
        cause: the most likely cause of errors as a sentence with what to do; none is known if "".
    """

    correct: int
    images: int
    chance: float
    at_chance: bool
    scales: dict[str, int]
    cause: str


def diagnose(model: Classifier, data: Dataset) -> Diagnosis:
    """Look at a checked model's predictions for up to `IMAGES` test images, drawn at random.

    >>> from scotoma.data import load_data
    >>> from scotoma.models.loading import load_model
    >>> digits, net = load_data("digits"), nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> diagnose(load_model(net).checked(digits), digits).at_chance
    True
    """
    images, labels = Sample(data.test, IMAGES).read()
    scores = _scores(model.module, images)
    predictions = scores.argmax(1)
    correct = int((predictions == labels).sum())
    chance, at_chance = _compare(predictions, labels)
    scales = dict(_scales(model.module, images, labels))
    causes = _causes(scores, labels, data, correct, scales)
    return Diagnosis(correct, len(labels), chance, at_chance, scales, next(causes, ""))


def stop_at_chance(model: Classifier, data: Dataset) -> None:
    """Raise `InputError` with the likely cause if a model is no better than chance.

    >>> from scotoma.data import load_data
    >>> digits = load_data("digits")
    >>> stop_at_chance(Classifier.of(nn.Flatten()), digits)
    Traceback (most recent call last):
    scotoma.utils.errors.InputError: model Flatten classifies ... of 100 test images ...
    """
    images, labels = Sample(data.test, IMAGES).read()
    if not _compare(_scores(model.module, images).argmax(1), labels)[1]:
        return
    result = diagnose(model, data)
    advice = result.cause or (
        "Check that its weights are loaded, the scale of its pixels and the order of its classes."
    )
    raise InputError(
        f"model {model.name} classifies {result.correct} of {result.images} test images of "
        f"{data.name} correctly, no more than chance ({result.chance:.0f}). {advice} force=True "
        "audits it anyway"
    )


def scale_note(model: Classifier, data: Dataset) -> list[str]:
    """Return a note if a module classifies clearly more images correctly with other pixels.

    Each usual scale costs a pass of a few images, unless accuracy is too high for a note. Black
    boxes get none: `settle` has set their scale. The global random state does not change.

    >>> from scotoma.data import load_data
    >>> scale_note(Classifier.of(nn.Flatten()), load_data("digits"))
    []
    """
    if any(isinstance(part, Function) for part in model.module.modules()):
        return []
    images, labels = Sample(data.test, NOTED).read()
    n = len(labels)
    with own_numbers():
        correct = int((_scores(model.module, images).argmax(1) == labels).sum())
        ahead = correct + max(FEWEST, CLEARLY * n)
        if ahead > n:
            return []
        best, most = max(_scales(model.module, images, labels), key=lambda each: each[1])
    if most < ahead:
        return []
    advice = _wanted(best, most, n)
    return [f"The model classifies {correct} of {n} images correctly. {advice}"]


def _wanted(scale: str, correct: int, images: int) -> str:
    return (
        f"With pixels {scale} it classifies {correct} of {images} correctly: convert images "
        "from [0, 1] in its first layer (normalisation)."
    )


@torch.no_grad()
def _scores(module: nn.Module, images: Tensor) -> Tensor:
    """Return what the module returns for images, on the CPU."""
    target = device(module)
    return torch.cat([module(batch.to(target)).float().cpu() for batch in images.split(BATCH)])


def _compare(predictions: Tensor, labels: Tensor) -> tuple[float, bool]:
    """Return the number correct by chance, and whether the predictions are no better.

    Chance is what remains if the labels are shuffled. Many shuffles decide; on few images a
    prediction is no better only if it is right on no more images than shuffles on average.
    """
    n, correct = len(labels), int((predictions == labels).sum())
    most = int(max(predictions.max(), labels.max())) + 1
    counts = [torch.bincount(each, minlength=most).double() for each in (predictions, labels)]
    expected = float((counts[0] * counts[1]).sum() / n)
    if n < ENOUGH:
        return expected, correct <= expected and correct < n
    generator = torch.Generator().manual_seed(0)
    order = torch.rand(SHUFFLES, n, generator=generator).argsort(1)
    matches = (labels[order] == predictions).sum(1)
    return expected, float((matches >= correct).float().mean()) > LEVEL


def _scales(module: nn.Module, images: Tensor, labels: Tensor) -> Iterator[tuple[str, int]]:
    """Yield the number of images classified correctly with other pixels."""

    def correct(change: Callable[[Tensor], Tensor]) -> int:
        return int((_scores(module, change(images)).argmax(1) == labels).sum())

    channels = images.shape[1]
    for name, (mean, std) in SCALES.items():
        middle, scale = (torch.tensor(each).view(-1, 1, 1) for each in (mean, std))
        if len(middle) in (1, channels) and (name[-5:] != "MNIST" or channels == 1):
            yield name, correct(lambda x, m=middle, s=scale: (x - m) / s)
    if channels == 3:
        yield "in the order blue, green, red", correct(lambda x: x.flip(1))


def _causes(
    scores: Tensor, labels: Tensor, data: Dataset, correct: int, scales: dict[str, int]
) -> Iterator[str]:
    """Yield what explains errors, the clearest first."""
    n, outputs, classes = len(labels), scores.shape[1], len(data.classes)
    ahead = correct + max(FEWEST, CLEARLY * n)
    best_scale = max(scales, key=lambda name: scales[name])
    if scales[best_scale] >= ahead:
        yield _wanted(best_scale, scales[best_scale], n)
    order = _reordered(scores.argmax(1), labels)
    if order is not None and 2 * order[0] >= max(ahead, order[1]):
        more = outputs > classes
        noun = f"{outputs} outputs for {data.counted}" if more else "classes"
        yield (
            f"With its {noun} in another order it classifies {order[0]} of {order[1]} other images "
            f"correctly: {'return the logits, not features, or ' if more else ''}give labels the "
            "numbers of its outputs (class order)."
        )
    outside = int((scores.argmax(1) >= classes).sum())
    if outputs > classes and outside > n / 2:
        yield (
            f"It has {outputs} outputs for {data.counted}, and the largest lies beyond the "
            f"classes for {outside} of {n} images: return the logits, not features, or use labels "
            "of its own classes."
        )
    most = int(torch.bincount(scores.argmax(1)).max())
    if n >= ENOUGH and most > 0.9 * n:
        yield (
            f"It predicts the same class for {most} of {n} images: check that its weights are "
            "loaded, and the scale of its pixels (normalisation)."
        )


def _reordered(predictions: Tensor, labels: Tensor) -> tuple[int, int] | None:
    """Return how many images of one half are correct after the best order of the classes on the
    other, and the size of the half; None for too few images."""
    half = len(labels) // 2
    if 2 * half < ENOUGH:
        return None
    # Images of a folder come class by class, and both halves need all classes.
    mixed = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    predictions, labels = predictions[mixed], labels[mixed]
    table = np.zeros((int(labels.max()) + 1, int(predictions.max()) + 1))
    np.add.at(table, (labels[:half].numpy(), predictions[:half].numpy()), 1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    output_of = torch.full((table.shape[0],), -1)
    output_of[torch.from_numpy(rows)] = torch.from_numpy(columns)
    return int((predictions[half:] == output_of[labels[half:]]).sum()), len(labels) - half
