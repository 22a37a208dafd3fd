"""Reference models: the networks that the papers' commands measure, each with how it is trained."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from scotoma.claim import Threat
from scotoma.data.dataset import ArraySplit, Dataset
from scotoma.errors import InputError
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.progress import Progress, Silent
from scotoma.table import nearest
from scotoma.training.loop import Schedule, train

ZOO = Path(__file__).parents[2] / "zoo"
"""Of a checkout of the repository; an installed package has none."""

TRIAL = 4
"""Batches that are timed to tell how long a training takes."""


@dataclass(frozen=True)
class Reference:
    """A model by how it is trained: the arguments of `training.loop.train`. Weights are stored as float16."""

    recipe: str
    data: str
    arch: str
    threat: str
    schedule: Schedule
    augment: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def train(self, data: Dataset, out: Path, step: Callable[[int], None]) -> None:
        """Train it into the file `out`; a training that was stopped goes on."""
        threat, schedule = Threat.parse(self.threat), self.schedule
        train(
            self.recipe,
            data,
            self.arch,
            threat,
            out,
            schedule=schedule,
            half=True,
            options=self.options,
            augment=self.augment,
            step=step,
        )

    def batches(self, data: Dataset) -> int:
        """Of its whole training."""
        return -(-len(data.train or ()) // self.schedule.batch) * self.schedule.epochs


_CIFAR = {"data": "cifar-10", "arch": "resnet9", "threat": "linf:8/255", "augment": ("crop-flip",)}
_SGD = Schedule(peak=0.2, decay=5e-4, optimizer="sgd")

REFERENCES = {
    "mnist-natural": Reference("natural", "mnist", "madry-mnist", "linf:0.3", Schedule(5)),
    "mnist-pgd": Reference("pgd", "mnist", "madry-mnist", "linf:0.3", Schedule(18)),
    "fashion-natural": Reference("natural", "fashion-mnist", "madry-mnist", "linf:0.1", Schedule(8)),
    "fashion-pgd": Reference("pgd", "fashion-mnist", "madry-mnist", "linf:0.1", Schedule(12)),
    "cifar-natural": Reference("natural", schedule=replace(_SGD, epochs=8), **_CIFAR),
    "cifar-robust": Reference("n-fgsm", schedule=replace(_SGD, epochs=12), **_CIFAR),
    "mnist-wong": Reference("wong", "mnist", "wong-small", "linf:0.1", Schedule(3, 50)),
    "fashion-wong": Reference("wong", "fashion-mnist", "wong-small", "linf:0.1", Schedule(2, 50)),
    "mnist-wrm": Reference("wrm", "mnist", "wrm", "linf:0.1", Schedule(1)),
    "fashion-wrm": Reference("wrm", "fashion-mnist", "wrm", "linf:0.1", Schedule(1)),
}
"""Each is the file NAME.safetensors in zoo/, if it is there."""


def recipe_of(name: str) -> Reference:
    """How a reference model is trained. Raises `InputError`, with the nearest name, for an unknown one."""
    if name not in REFERENCES:
        raise InputError(f"unknown reference model {name!r}; {nearest(name, list(REFERENCES))}")
    return REFERENCES[name]


def find(name: str, folder: Path | None = None) -> Path | None:
    """The file of a reference model in `folder`, in the repository's zoo or in the user's cache; None if it is in none."""
    places = [folder] if folder else []
    files = [place / f"{name}.safetensors" for place in (*places, ZOO, _cache())]
    return next((file for file in files if file.exists()), None)


def reference(
    name: str,
    data: Dataset,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Classifier:
    """A reference model: loaded where `find` finds it, else trained.

    Args:
        name: of `REFERENCES`.
        data: what it is trained on.
        folder: where files are looked for first and new ones are written; None is the user's cache.
        progress: where to show how far the training is.
        say: is told, before a training begins, how long it will take.
    """
    wanted = recipe_of(name)
    path = find(name, folder)
    if path is None:
        path = (folder or _cache()) / f"{name}.safetensors"
        say(
            f"{name} is not there yet: training it ({wanted.recipe}, {wanted.arch} on {data.name}, {wanted.schedule.epochs} "
            f"epochs) takes about {spoken(seconds_to_train(wanted, data))}, less if it was begun before"
        )
        with (progress or Silent()).bar(f"training {name}", wanted.batches(data)) as advance:
            wanted.train(data, path, advance)
    return load_model(str(path))


def seconds_to_train(wanted: Reference, data: Dataset) -> float:
    """How long a training takes, from the time of a few batches and of the evaluation that follows every epoch."""
    if data.train is None:
        raise InputError(f"data {data.name} has no training split to train on")
    chosen = torch.arange(min(TRIAL * wanted.schedule.batch, len(data.train)))
    few = ArraySplit(data.train.images(chosen).numpy(), data.train.labels[chosen].numpy(), data.name)
    short = replace(wanted, schedule=replace(wanted.schedule, epochs=1))
    ticks: list[float] = []
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        short.train(replace(data, train=few), Path(folder) / "trial.safetensors", lambda steps: ticks.append(time.monotonic()))
    after = time.monotonic() - ticks[-1]  # an evaluation after the epoch and one of the stored weights
    # the first tick comes before the first batch, which pays for what is done only once
    batch = (ticks[-1] - ticks[1]) / (len(ticks) - 2) if len(ticks) > 2 else ticks[-1] - ticks[0]
    return wanted.batches(data) * batch + (wanted.schedule.epochs + 1) * after / 2


def spoken(seconds: float) -> str:
    """A time in a sentence: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _cache() -> Path:
    import pooch

    return Path(pooch.os_cache("scotoma")) / "models"
