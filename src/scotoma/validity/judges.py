"""Networks trained on the claim's training data to judge images; never the audited model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from scotoma.data.dataset import Dataset, Sample
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.threat import Threat
from scotoma.training.augment import Varied
from scotoma.training.loop import Schedule, train
from scotoma.training.plain import Natural
from scotoma.utils.cache import kept, once
from scotoma.utils.progress import Progress
from scotoma.utils.random import own_numbers

ARCHITECTURES = ("judge-strided", "judge-patches", "judge-pooled")
"""Three networks that read an image in different ways; an odd number has a majority."""
IMAGES = 40_000
"""Most training images that they learn from."""
FEW_IMAGES = 10_000
STEPS = {"few": 450, "gray": 950, "colour": 2000}
"""Steps on few images, on many of one channel, and on many in colour: on one core ten seconds,
two minutes and six minutes for the three networks together."""
VERSION = 1
"""Part of the fingerprint; raised when the training changes."""


@dataclass(frozen=True)
class Judging(Natural):
    """Natural training whose log has clean accuracies alone."""

    evaluated: ClassVar = 100


def schedule_for(images: int, channels: int) -> Schedule:
    """Return the training of a judge.

    >>> schedule_for(40_000, 1).epochs, schedule_for(40_000, 3).epochs
    (2, 3)
    """
    few = images < FEW_IMAGES
    steps, batch = STEPS["few" if few else "gray" if channels == 1 else "colour"], 32 if few else 64
    return Schedule(min(40, max(1, round(steps * batch / images))), batch, peak=5e-3)


def trained_judges(
    data: Dataset, folder: Path, seed: int = 0, progress: Progress | None = None
) -> tuple[Classifier, ...]:
    """Return the judges of a data set, trained now or read from `folder`.

    They learn from clean images that are turned, zoomed, shifted, lightened, darkened and made
    noisy (`Varied`): changes that leave the class as it is, so that a judge is not misled by them.

    Args:
        data: with a training split.
        folder: where the networks are kept, by a fingerprint of the data and the settings.
        seed: seed of the weights and of the order of images.
        progress: where the training is shown.
    """
    assert data.train is not None
    sample = Sample(data.train, IMAGES)
    schedule = schedule_for(len(sample), data.shape[0])
    settings = [VERSION, data.sha256, len(sample), asdict(schedule), asdict(Varied()), seed]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    reduced = replace(data, train=sample)
    judges = []
    for arch in ARCHITECTURES:
        path = kept(folder / key / f"{arch}.safetensors")
        make = partial(_train, reduced, arch, path, schedule, seed, progress or Progress())
        judges.append(load_model(str(once(path, make))))
    return tuple(judges)


def _train(
    data: Dataset, arch: str, out: Path, schedule: Schedule, seed: int, progress: Progress
) -> None:
    batches = -(-len(data.train or ()) // schedule.batch) * schedule.epochs
    what = f"training {arch} on {data.name}, to judge which images are valid"
    with own_numbers(), progress.bar(what, batches) as advance:
        train(
            Judging(Threat("linf", 1.0)),
            data,
            arch,
            Threat("linf", 1.0),
            out,
            schedule=schedule,
            seed=seed,
            half=True,
            augment=[Varied()],
            step=advance,
        )
