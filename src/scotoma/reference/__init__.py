"""Reference models: the networks that the papers' commands measure, and how each is trained."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from scotoma.data.dataset import Dataset, Split
from scotoma.execution.budget import spoken
from scotoma.execution.ranks import ranks
from scotoma.models import ARCHITECTURES
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.reference.recipe import Reference
from scotoma.reference.table import FEW as FEW
from scotoma.reference.table import REFERENCES
from scotoma.reference.table import SEEDED as SEEDED
from scotoma.reference.table import SEEDS as SEEDS
from scotoma.utils.cache import cache
from scotoma.utils.errors import InputError
from scotoma.utils.progress import Progress, Silent
from scotoma.utils.random import own_numbers
from scotoma.utils.registry import nearest

ZOO = Path(__file__).parents[3] / "zoo"
"""Folder of trained models in a checkout of the repository; an installed package has none."""

TRIAL = 4
"""Timed batches to estimate the time of a training, for the model and for each of its sources."""


def recipe_of(name: str) -> Reference:
    """Return how a reference model is trained. Raises `InputError` for an unknown name."""
    if name not in REFERENCES:
        raise InputError(f"unknown reference model {name!r}; {nearest(name, list(REFERENCES))}")
    return REFERENCES[name]


def find(name: str, folder: Path | None = None) -> Path | None:
    """Return the file of a reference model in `folder`, the zoo or the user's cache, or None."""
    places = [folder] if folder else []
    files = [place / f"{name}.safetensors" for place in (*places, ZOO, cache() / "models")]
    return next((file for file in files if file.exists()), None)


def in_zoo(name: str) -> Path | None:
    """Return the file of a reference model in the zoo, or None.

    Probes take models from there alone, so that an audit does not depend on what was reproduced on
    this machine before.
    """
    file = ZOO / f"{name}.safetensors"
    return file if file.exists() else None


def missing(names: Iterable[str], folder: Path | None = None) -> list[str]:
    """Return the reference models without a file, each after its own missing sources."""
    lacking: dict[str, None] = {}
    for name in names:
        wanted = recipe_of(name)
        if find(name, folder) is None:
            lacking |= dict.fromkeys((*missing(wanted.sources, folder), name))
    return list(lacking)


def fetch(
    names: Iterable[str],
    data: Callable[[str], Dataset],
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Train the reference models that are `missing`.

    Args:
        names: names of `REFERENCES`.
        data: returns the training data of the model of a name.
        folder: where files are looked for first and new ones are written; None is the user's cache.
        progress: where progress is shown.
        say: called with lines about how long each training will take, before the first begins.
    """
    lacking, total = missing(names, folder), 0.0
    for name in lacking:
        wanted = recipe_of(name)
        if not wanted.has_steps:
            say(
                f"{name} does not exist yet and needs no training "
                f"({wanted.recipe}: {data(name).name})"
            )
            continue
        seconds = seconds_to_train(wanted, data(name))
        total += seconds
        say(
            f"{name} does not exist yet: training ({wanted.recipe}, {wanted.arch} on "
            f"{data(name).name}, {wanted.schedule.epochs} epochs) takes about {spoken(seconds)}, "
            "less if a stopped training is resumed"
        )
    if len(lacking) > 1:
        say(
            f"these {len(lacking)} models take about {spoken(total)} together; if you stop it, the "
            "same command continues there"
        )
    for name in lacking:
        wanted = recipe_of(name)
        path = (folder or cache() / "models") / f"{name}.safetensors"
        if not ranks().claim(f"training {path}"):
            ranks().wait(f"training {path}")
            continue
        sources = [load_model(str(find(source, folder))) for source in wanted.sources]
        with (progress or Silent()).bar(f"training {name}", wanted.batches(data(name))) as advance:
            wanted.train(data(name), path, advance, sources)
        ranks().done(f"training {path}")


def reference(
    name: str,
    data: Dataset,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Classifier:
    """Return a reference model, trained first (after its missing sources) if it has no file.

    Args:
        name: a name of `REFERENCES`.
        data: data that the model and its sources are trained on.
        folder, progress, say: as in `fetch`.
    """
    fetch([name], lambda _: data, folder=folder, progress=progress, say=say)
    return load_model(str(find(name, folder)))


def seconds_to_train(wanted: Reference, data: Dataset) -> float:
    """Estimate the time of a training whose sources exist.

    A few batches, and the evaluation that follows every epoch, are timed.
    """
    if data.train is None:
        raise InputError(f"data {data.name} has no training split to train on")
    few = _First(data.train, TRIAL * (1 + len(wanted.sources)) * wanted.schedule.batch)
    short = replace(wanted, schedule=replace(wanted.schedule, epochs=1))
    ticks: list[float] = []
    with tempfile.TemporaryDirectory() as folder, own_numbers():
        # random weights take as long as trained ones
        sources = [_untrained(source, data) for source in wanted.sources]
        path = Path(folder) / "trial.safetensors"
        short.train(
            replace(data, train=few), path, lambda steps: ticks.append(time.monotonic()), sources
        )
    # an evaluation after the epoch and one of the stored weights
    after = time.monotonic() - ticks[-1]
    # the first tick comes before the first batch, which includes all that is done only once
    batch = (ticks[-1] - ticks[1]) / (len(ticks) - 2) if len(ticks) > 2 else ticks[-1] - ticks[0]
    return wanted.batches(data) * batch + (wanted.schedule.epochs + 1) * after / 2


class _First:
    """The first images of a split, read when they are needed."""

    def __init__(self, split: Split, images: int):
        self.labels, self.shape, self.images = split.labels[:images], split.shape, split.images

    def __len__(self) -> int:
        return len(self.labels)


def _untrained(name: str, data: Dataset) -> Classifier:
    return Classifier.of(ARCHITECTURES[recipe_of(name).arch](data.shape, len(data.classes)), name)
