"""Reference models: the networks that the papers' commands measure, and how each is trained."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from scotoma.claim import Threat
from scotoma.data.dataset import Dataset, Repeated, Sample, Split
from scotoma.execution.budget import spoken
from scotoma.execution.ranks import ranks
from scotoma.models import ARCHITECTURES
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.training import RECIPES
from scotoma.training.loop import Schedule, train
from scotoma.utils.cache import cache
from scotoma.utils.errors import InputError
from scotoma.utils.progress import Progress, Silent
from scotoma.utils.registry import nearest

ZOO = Path(__file__).parents[2] / "zoo"
"""Folder of trained models in a checkout of the repository; an installed package has none."""

TRIAL = 4
"""Timed batches to estimate the time of a training, for the model and for each of its sources."""


@dataclass(frozen=True)
class Reference:
    """How a model is trained: arguments of `training.loop.train`. Weights are stored as float16.

    `sources` names reference models of the same data for the recipe's option `sources`: models that
    it takes adversarial images from, its teacher, or, if it `begins` there, the model whose weights
    it starts from. `images` are the training images that it sees,
    drawn by the seed; each returns until an epoch has as many steps as one over the whole training
    split.
    """

    recipe: str
    data: str
    arch: str
    threat: str
    schedule: Schedule
    augment: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    begins: bool = False
    images: int | None = None
    seed: int = 0

    def seen(self, data: Dataset) -> Dataset:
        """Return the data with the training images that the model sees."""
        if self.images is None or data.train is None:
            return data
        return self._with(data, Sample(data.train, self.images, self.seed))

    def _with(self, data: Dataset, train: Split) -> Dataset:
        digest = hashlib.sha256(f"{data.sha256} {self.images} {self.seed}".encode())
        return replace(data, train=train, sha256=digest.hexdigest())

    def train(
        self,
        data: Dataset,
        out: Path,
        step: Callable[[int], None],
        sources: Sequence[Classifier] = (),
    ) -> None:
        """Train the model with these source models into `out`; resume a stopped training."""
        threat, schedule = Threat.parse(self.threat), self.schedule
        if self.images is not None and data.train is not None:
            data = self._with(data, Repeated(data.train, self.images, self.seed))
        given = {"sources": tuple(sources)} if sources and not self.begins else {}
        train(
            self.recipe,
            data,
            self.arch,
            threat,
            out,
            schedule=schedule,
            seed=self.seed,
            half=True,
            options=self.options | given,
            augment=self.augment,
            start=sources[0] if self.begins else None,
            step=step,
        )

    @property
    def has_steps(self) -> bool:
        """Whether the model is trained in steps; a recipe with `fit` takes all images at once."""
        return not hasattr(RECIPES[self.recipe], "fit")

    def batches(self, data: Dataset) -> int:
        """Return the number of batches of the whole training."""
        each = -(-len(data.train or ()) // self.schedule.batch) if self.has_steps else 0
        return each * self.schedule.epochs


_CIFAR: dict[str, Any] = {
    "data": "cifar-10",
    "arch": "resnet9",
    "threat": "linf:8/255",
    "augment": ("crop-flip",),
}
_SGD = Schedule(peak=0.2, decay=5e-4, optimizer="sgd")
_DIGITS: dict[str, Any] = {
    "data": "digits",
    "arch": "small-cnn",
    "schedule": Schedule(40, 64, peak=3e-3),
}
"""Networks on digits, each trained in less than a minute."""
_SMALL: dict[str, Any] = {
    "data": "mnist",
    "arch": "wong-small",
    "schedule": Schedule(12, 64, peak=2e-3),
}
"""A sweep over training images only: one network, the same number of epochs, minutes each."""
_BRIEF: dict[str, Any] = _SMALL | {"schedule": Schedule(4, 64, peak=2e-3)}
"""The sweep over sizes that are far below those of the noise that the networks are tested with."""
_FEW: dict[str, Any] = _SMALL | {
    "threat": "linf:0.3",
    "schedule": Schedule(1, 32, peak=2e-3),
    "options": {"steps": 4},
}
"""Networks that differ in what they train on, with 1,875 steps each; a minute each."""
FEW = (1, 3, 10, 30, 60)
"""Thousands of MNIST images that networks are trained on to study scarcity."""
SEEDS = (0, 1)
SEEDED = {0: "", 1: "-seed1", 2: "-seed2"}
"""Ends of the names of the digits' networks by seed."""
_TRAMER = ("tramer-a", "tramer-b", "tramer-c", "tramer-d")
_ENSEMBLE = {"sources": ("tramer-a", "tramer-c", "tramer-d")}
_IMAGENET = {
    "data": "folder:imagenet",
    "threat": "linf:16/256",
    "schedule": Schedule(90, 256, peak=0.1, decay=1e-4, optimizer="sgd"),
    "augment": ("crop-flip",),
}


def _on_mnist(recipe: str, arch: str, epochs: int = 6, **more: Any) -> Reference:
    return Reference(recipe, "mnist", arch, "linf:0.3", Schedule(epochs, 64), **more)


REFERENCES = {
    "mnist-natural": Reference("natural", "mnist", "madry-mnist", "linf:0.3", Schedule(5)),
    "mnist-pgd": Reference("pgd", "mnist", "madry-mnist", "linf:0.3", Schedule(18)),
    "mnist-small-natural": Reference("natural", threat="linf:0.3", **_SMALL),
    **{
        f"mnist-small-pgd-0{tenths}": Reference("pgd", threat=f"linf:0.{tenths}", **_SMALL)
        for tenths in (1, 2, 3)
    },
    "mnist-small-pgd-cutout": Reference("pgd", threat="linf:0.3", augment=("cutout",), **_SMALL),
    "mnist-small-pgd-shifted": Reference(
        "pgd-shifted",
        "mnist",
        "wong-small",
        "linf:0.3",
        Schedule(6, 128, peak=2e-3),
        options={"warmup": 0.01},
        sources=("mnist-small-pgd-03",),
        begins=True,
    ),
    "mnist-small-pgd-composed-1": Reference(
        "pgd-composed",
        "mnist",
        "wong-small",
        "linf:0.3",
        Schedule(8, 128, peak=3e-3),
        options={"warmup": 0.01, "reach": 1.0, "white": 0.0},
        sources=("mnist-small-pgd-shifted",),
        begins=True,
    ),
    "mnist-small-pgd-composed": Reference(
        "pgd-composed",
        "mnist",
        "wong-small",
        "linf:0.3",
        Schedule(10, 128, peak=2e-3),
        options={"warmup": 0.01, "white": 0.5},
        sources=("mnist-small-pgd-composed-1",),
        begins=True,
    ),
    "mnist-small-igd": Reference(
        "igd", threat="linf:0.3", sources=("mnist-small-natural",), **_SMALL
    ),
    "mnist-brief-natural": Reference("natural", threat="linf:0.01", **_BRIEF),
    **{
        f"mnist-brief-pgd-00{hundredths}": Reference(
            "pgd", threat=f"linf:0.0{hundredths}", **_BRIEF
        )
        for hundredths in (2, 5)
    },
    **{
        f"mnist-{thousands}k-{seed}": Reference("pgd", images=1000 * thousands, seed=seed, **_FEW)
        for thousands in FEW
        for seed in SEEDS
    },
    **{
        f"mnist-60k-{augment}-{seed}": Reference(
            "pgd", images=60_000, seed=seed, augment=(augment,), **_FEW
        )
        for augment in ("scale-shift", "invert")
        for seed in SEEDS[:1]
    },
    **{
        f"digits-natural{end}": Reference("natural", threat="linf:0.3", seed=seed, **_DIGITS)
        for seed, end in SEEDED.items()
    },
    **{
        f"digits-pgd-0{tenths}{end}": Reference(
            "pgd", threat=f"linf:0.{tenths}", seed=seed, **_DIGITS
        )
        for seed, end in SEEDED.items()
        for tenths in (1, 2, 3)
    },
    "digits-pgd-cutout": Reference("pgd", threat="linf:0.3", augment=("cutout",), **_DIGITS),
    "digits-igd": Reference("igd", threat="linf:0.3", sources=("digits-natural",), **_DIGITS),
    "fashion-natural": Reference(
        "natural", "fashion-mnist", "madry-mnist", "linf:0.1", Schedule(8)
    ),
    "fashion-pgd": Reference("pgd", "fashion-mnist", "madry-mnist", "linf:0.1", Schedule(12)),
    "cifar-natural": Reference("natural", schedule=replace(_SGD, epochs=8), **_CIFAR),
    "cifar-robust": Reference("n-fgsm", schedule=replace(_SGD, epochs=12), **_CIFAR),
    **{
        f"cifar-pgd-{levels}": Reference(
            "n-fgsm", schedule=replace(_SGD, epochs=5), **{**_CIFAR, "threat": f"linf:{levels}/255"}
        )
        for levels in (1, 2, 4)
    },
    "mnist-wong": Reference("wong", "mnist", "wong-small", "linf:0.1", Schedule(3, 50)),
    "fashion-wong": Reference("wong", "fashion-mnist", "wong-small", "linf:0.1", Schedule(2, 50)),
    "mnist-wrm": Reference("wrm", "mnist", "wrm", "linf:0.1", Schedule(1)),
    "fashion-wrm": Reference("wrm", "fashion-mnist", "wrm", "linf:0.1", Schedule(1)),
    **{arch: _on_mnist("natural", arch) for arch in _TRAMER},
    **{f"{arch}-fgsm": _on_mnist("fgsm", arch) for arch in _TRAMER},
    **{
        f"{arch}-ensemble{epochs}": _on_mnist("ensemble", arch, epochs, **_ENSEMBLE)
        for arch in _TRAMER
        for epochs in (6, 12)
    },
    "tramer-a-rand-fgsm": _on_mnist("rand-fgsm", "tramer-a"),
    "mnist-nearest-neighbour": Reference(
        "nearest-neighbour", "mnist", "nearest-neighbour", "l2:1.5", Schedule(0)
    ),
    "mnist-cnn": Reference("natural", "mnist", "cnn", "l2:1.5", Schedule(6)),
    "mnist-binary-cnn": Reference("natural", "mnist", "binary-cnn", "linf:0.3", Schedule(6)),
    "mnist-abs": Reference("abs", "mnist", "abs", "l2:1.5", Schedule(30, peak=3e-3)),
    "mnist-binary-abs": Reference("abs", "mnist", "binary-abs", "l2:1.5", Schedule(30, peak=3e-3)),
    "fashion-abs": Reference("abs", "fashion-mnist", "abs", "l2:1.5", Schedule(15, peak=3e-3)),
    "imagenet-natural": Reference("natural", arch="resnet50", **_IMAGENET),
    "imagenet-held-out": Reference("natural", arch="resnet101", **_IMAGENET),
    "imagenet-step-ll": Reference("step-ll", arch="resnet50", **_IMAGENET),
    "imagenet-ensemble": Reference(
        "ensemble",
        arch="resnet50",
        options={"step": "step-ll"},
        sources=("imagenet-natural",),
        **_IMAGENET,
    ),
}
"""Reference models by name; the file of each is NAME.safetensors."""


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
        folder: where files are looked for first and new ones are written; None is the user's cache.
        progress: where progress is shown.
        say: called with a line about how long a training will take, before it begins.
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
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
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
