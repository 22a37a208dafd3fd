"""What an item of a paper is, and what it may use to measure itself again."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from scotoma.claim import Claim, Threat
from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.execution.run import Run
from scotoma.models.classifier import Classifier
from scotoma.reference import fetch, recipe_of, reference
from scotoma.results.finding import Finding, Row
from scotoma.utils.errors import InputError
from scotoma.utils.progress import Progress, Silent
from scotoma.utils.stats import Estimate, finite

SUMMARY = "summary"
"""The table of an item's finding that is printed in place of its rows, where these are many."""


class Context:
    """Models, data and runs of a reproduction; entered, it holds its run folders against other processes.

    Args:
        folder: holds the run of each model NAME in NAME; items share it, so that no image is attacked twice.
        attack: a name of `ATTACKS`; None is the paper's.
        limit: how many images an item attacks; None is as many as the paper did.
        seed: of the draw of images and of every attack.
        models: where reference models are looked for first and written.
        data_root: where data sets lie.
        progress: where to show how far it is.
        say: is told what takes long before it begins.
    """

    def __init__(
        self,
        folder: Path,
        *,
        attack: str | None = None,
        limit: int | None = None,
        seed: int = 0,
        models: Path | None = None,
        data_root: Path | None = None,
        progress: Progress | None = None,
        say: Callable[[str], None] = lambda line: None,
    ):
        self.folder = folder
        self.attack = attack
        self.limit = limit
        self.seed = seed
        self.progress = progress or Silent()
        self.runs: dict[str, Run] = {}
        self.models: dict[str, Classifier] = {}
        self._data: dict[str, Dataset] = {}
        self._places = (models, data_root)
        self._say = say
        self._locks = ExitStack()

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *error: object) -> None:
        self._locks.close()

    def data(self, name: str) -> Dataset:
        """The data set that the reference model `name` was trained on."""
        source = recipe_of(name).data
        if source not in self._data:
            self._data[source] = load_data(_located(source, self._places[1]), self._places[1])
        return self._data[source]

    def prepare(self, names: Iterable[str]) -> None:
        """Train those reference models that are not there yet, after telling how long all of them take."""
        fetch(names, self.data, folder=self._places[0], progress=self.progress, say=self._say)

    def model(self, name: str) -> Classifier:
        """The reference model `name`, trained where it is not there yet."""
        if name not in self.models:
            data = self.data(name)
            found = reference(
                name, data, folder=self._places[0], progress=self.progress, say=self._say
            )
            self.models[name] = found.checked(data)
        return self.models[name]

    def run(self, name: str) -> Run:
        """The run of the claim that the reference model `name` was trained for, on all test images."""
        if name not in self.runs:
            claim = Claim(self.model(name), self.data(name), Threat.parse(recipe_of(name).threat))
            run = Run(claim, self.folder / name, seed=self.seed, progress=self.progress)
            self._locks.enter_context(run.store.locked())
            self.runs[name] = run
        return self.runs[name]


def _located(source: str, root: Path | None) -> str:
    """What `load_data` reads: "folder:NAME" of a reference model lies below the folder of data sets, as all other data.

    Raises `InputError` where it does not.
    """
    kind, _, name = source.partition(":")
    if kind != "folder":
        return source
    home = Path(root or os.environ.get("SCOTOMA_DATA", ".")).expanduser()
    places = [home / name, *([home] if home.resolve().name == name else [])]
    found = next((place for place in places if (place / "test").is_dir()), None)
    if found is None:
        raise InputError(
            f"{places[0]}: no images there; {name} cannot be downloaded: put it into FOLDER/{name} as train/CLASS/IMAGE and "
            "test/CLASS/IMAGE, all of one size, and give --data-root FOLDER"
        )
    return f"folder:{found}"


class Item(Protocol):
    """A table or a figure of a paper."""

    title: str
    """As a heading of the report."""
    source: str
    """Where in which paper it stands."""
    models: tuple[str, ...]
    """The reference models that it measures."""

    def measure(self, context: Context, name: str) -> tuple[list[Row], Finding]:
        """Measure it again.

        Args:
            context: what to measure with.
            name: of the finding.

        Returns:
            Rows made by `row`, each a figure of ours beside the paper's, and a finding whose verdict is "reproduced",
            "differs" or "not applicable".
        """
        ...


class Measured(Protocol):
    """A value with its 95% interval over n: `stats.Rate`, `stats.Correlation`, `geometry.risk.Estimate`."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def n(self) -> int: ...


def row(keys: Row, measure: str, ours: Measured, published: float | None = None) -> Row:
    """A figure of ours beside the paper's, which is None where the paper prints none. `keys` say which figure it is."""
    interval = {"ours": finite(ours.value), "low": finite(ours.low), "high": finite(ours.high)}
    return {**keys, "measure": measure, **interval, "n": ours.n, "published": published}


def number(numbers: dict[str, Any], name: str, n: int) -> Measured:
    """A number of a probe's finding, with its interval where it has one."""
    value, low, high = (numbers.get(f"{name}{end}") for end in ("", "_low", "_high"))
    value, low, high = (math.nan if given is None else given for given in (value, low, high))
    return Estimate(value, low, high, n)


def agreement(rows: list[Row]) -> tuple[int, int]:
    """How many published figures lie inside our intervals, of how many."""
    both = [each for each in rows if each["published"] is not None and each["low"] is not None]
    return sum(each["low"] <= each["published"] <= each["high"] for each in both), len(both)
