"""Items of a paper, and the context in which they are measured."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

import numpy as np

from scotoma.claim import Claim
from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled
from scotoma.models.classifier import Classifier
from scotoma.papers.checks import RULE, SUM, Check, Interval, counts, sentences, verdict
from scotoma.papers.figures import SUMMARY as SUMMARY
from scotoma.papers.figures import Drawing
from scotoma.probes.base import columns
from scotoma.reference import fetch, recipe_of, reference
from scotoma.results.finding import Chart, Finding, Gallery, Row
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.progress import Progress, Silent
from scotoma.utils.stats import Estimate, finite

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")


class Options(TypedDict, total=False):
    """What a user can set for a reproduction."""

    attack: str | None
    """a name of `ATTACKS`; None means the paper's attack"""
    limit: int | None
    """number of images that an item attacks; None means as many as in the paper"""
    seed: int
    """seed for the choice of images and for every attack"""
    models: Path | None
    """folder of the reference models; missing ones are trained into it"""
    data_root: Path | None
    progress: Progress | None
    say: Callable[[str], None]
    """called with a line before work that takes long"""


class Context:
    """Models, data and runs of a reproduction; leaving it releases the locks on its run folders.

    Args:
        folder: holds the run of each model in a folder of its name. Items share these runs, so no
            image is attacked twice.
    """

    def __init__(self, folder: Path, **options: Unpack[Options]):
        self.folder, self.seed = folder, options.get("seed", 0)
        self.attack, self.limit = options.get("attack"), options.get("limit")
        self.progress = options.get("progress") or Silent()
        self.runs: dict[str, Run] = {}
        self.models: dict[str, Classifier] = {}
        self._data: dict[str, Dataset] = {}
        self._root, say = options.get("data_root"), options.get("say", lambda line: None)
        self._fetch: Any = {"folder": options.get("models"), "progress": self.progress, "say": say}
        self._locks = ExitStack()

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *error: object) -> None:
        self._locks.close()

    def data(self, name: str) -> Dataset:
        """Return the data set that a reference model was trained on."""
        source = recipe_of(name).data
        if source not in self._data:
            self._data[source] = load_data(_located(source, self._root), self._root)
        return self._data[source]

    def prepare(self, names: Sequence[str]) -> None:
        """Load reference models; those that are missing are announced and trained first."""
        fetch(names, self.data, **self._fetch)
        for name in names:
            self.model(name)

    def model(self, name: str) -> Classifier:
        """Return a reference model, training it if it is missing."""
        if name not in self.models:
            data = self.data(name)
            self.models[name] = reference(name, data, **self._fetch).checked(data)
        return self.models[name]

    def run(self, name: str) -> Run:
        """Return the run, on all test images, of the claim that a model was trained for."""
        if name not in self.runs:
            plan = recipe_of(name)
            claim = Claim(self.model(name), plan.seen(self.data(name)), Threat.parse(plan.threat))
            run = Run(claim, self.folder / name, seed=self.seed, progress=self.progress)
            self._locks.enter_context(run.store.locked())
            self.runs[name] = run
        return self.runs[name]

    def sample(self, name: str, n: int, most: float = math.inf) -> Run:
        """Return a model's run on random test images, the same for models of the same data.

        They are n, or as many as the user's limit says, and at most `most`.
        """
        run = self.run(name)
        order = shuffled(len(run.claim.data.test), run.seed)
        return run.subset(order[: int(min(self.limit or n, most))].sort().values)

    def each(self, what: str, over: Mapping[K, V], work: Callable[[V], R]) -> dict[K, R]:
        """Return the results of `work` on every value of `over`, under a progress bar."""
        results: dict[K, R] = {}
        with self.progress.bar(what, len(over)) as advance:
            for key, value in over.items():
                results[key] = work(value)
                advance(1)
        return results


def _located(source: str, root: Path | None) -> str:
    """Return what `load_data` reads: "folder:NAME" lies below the folder of data sets.

    Raises `InputError` if it does not.
    """
    kind, _, name = source.partition(":")
    if kind != "folder":
        return source
    home = Path(root or os.environ.get("SCOTOMA_DATA", ".")).expanduser()
    for folder in (home / name, *([home] if home.resolve().name == name else [])):
        if (folder / "test").is_dir():
            return f"folder:{folder}"
    raise InputError(
        f"{home / name}: no images there; {name} cannot be downloaded: put its images, all of one "
        f"size, into FOLDER/{name} as train/CLASS/IMAGE and test/CLASS/IMAGE, and give "
        "data_root=FOLDER"
    )


class Item(ABC):
    """A table or a figure of a paper."""

    title: str
    """Heading of the report."""
    source: str
    """Paper, and the place of the item in it."""
    models: tuple[str, ...]
    """Names of the reference models that are measured."""

    @abstractmethod
    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        """Measure the item again, with what the context gives.

        Returns:
            Rows made by `row`, each a number of ours beside the paper's, and a finding, which has
            no name yet, with the verdict "agrees", "undecided", "contradicts" or "not applicable".
        """

    def finding(
        self,
        rows: list[Row],
        checks: Iterable[Check],
        headline: str,
        *notes: str,
        rule: str = RULE,
        numbers: Row | None = None,
        summary: list[Row] | None = None,
        tables: Mapping[str, list[Row]] | None = None,
        figures: Iterable[Drawing] = (),
        images: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[list[Row], Finding]:
        """Return the rows and the finding of this item, decided by comparisons.

        Args:
            rows: see `measure`.
            checks: comparisons with the paper.
            headline: what was measured; the outcome of the comparisons is appended.
            notes: how it was measured.
            rule: when a comparison agrees.
            numbers, tables, images: see `Finding`; those of the figures are added.
            summary: rows to print in place of the item's.
        """
        checks, drawings = list(checks), list(figures)
        all_tables = {SUMMARY: summary} if summary else {}
        all_tables |= {"checks": [check.row for check in checks], **(tables or {})}
        arrays = dict(images or {})
        for figure, content in drawings:
            if isinstance(figure, Gallery) and isinstance(content, np.ndarray):
                arrays[figure.images] = content
            elif isinstance(figure, Chart) and isinstance(content, list):
                all_tables[figure.table] = content
        if agreeing := agreement(rows):
            published = "{published_inside} of {published} published numbers lie in our intervals."
            headline += f" {published.format(**agreeing)}"
        return rows, Finding(
            "",
            self.title,
            verdict(checks),
            f"a comparison agrees if {rule}. {SUM}",
            f"{headline} {sentences(checks)}",
            numbers=(numbers or {}) | agreeing | counts(checks),
            tables=all_tables,
            figures=tuple(figure for figure, _ in drawings),
            notes=notes,
            images=arrays,
        )


class Comparison(Item):
    """An item that measures several reference models, or groups of them, in the same way."""

    trainings: dict[str, Any]
    """Reference models by their names in the tables; a group is a tuple or again a dictionary."""

    @property
    def models(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(_names(self.trainings))

    def each(self, context: Context, work: Callable[[Context, Any], R]) -> dict[str, R]:
        """Return the results of `work` on each model or group, by its name in the tables."""
        return context.each(self.title, self.trainings, lambda models: work(context, models))


def _names(models: Any) -> list[str]:
    """Return the names of a model, of a tuple of models or of a dictionary of models."""
    if isinstance(models, str):
        return [models]
    parts = models.values() if isinstance(models, dict) else models
    return [name for each in parts for name in _names(each)]


def lines(measured: Mapping[K, V], row_of: Callable[[K, V], Row | list[Row]]) -> list[Row]:
    """Return the lines that `row_of` makes of each name and its measurements."""
    rows = [row_of(*each) for each in measured.items()]
    return [line for part in rows for line in (part if isinstance(part, list) else [part])]


def flat(groups: Mapping[K, Mapping[V, R]]) -> dict[tuple[K, V], R]:
    """Return all members, by the names of group and member."""
    return {(key, name): each for key, group in groups.items() for name, each in group.items()}


def row(keys: Row, measure: str, ours: Interval, published: float | None = None) -> Row:
    """Return a number of ours beside the paper's.

    Args:
        keys: say which number it is.
        measure: what is measured.
        ours: our value with its interval.
        published: the paper's value; None if the paper prints none.
    """
    interval = {"ours": finite(ours.value), "low": finite(ours.low), "high": finite(ours.high)}
    return {**keys, "measure": measure, **interval, "n": ours.n, "published": published}


def ours(
    keys: Row, measures: Mapping[str, Interval], published: Mapping[str, float] | None = None
) -> list[Row]:
    """Return a row for each measure; `published` has the paper's values, if it prints any."""
    return [row(keys, name, value, (published or {}).get(name)) for name, value in measures.items()]


def cells(**values: Any) -> Row:
    """Return cells of a table; a measured value has three, with the ends of its interval."""
    line: Row = {}
    for name, value in values.items():
        line |= columns(name, value) if hasattr(value, "low") else {name: value}
    return line


def listed(values: Mapping[Any, Any], form: str, between: str = ", ") -> str:
    """Return names and values for a sentence; `form` is a format of the value.

    >>> listed({"CNN": Estimate(1.09, 1.0, 1.2, 9)}, "{0.value:.1f} ({0.low:.1f} to {0.high:.1f})")
    'CNN 1.1 (1.0 to 1.2)'
    """
    return between.join(f"{name} {form.format(value)}" for name, value in values.items())


def number(numbers: Row, name: str, n: int) -> Interval:
    """Return a number of a probe's finding, with its interval if it has one."""
    ends = (numbers.get(f"{name}{end}") for end in ("", "_low", "_high"))
    value, low, high = (math.nan if end is None else end for end in ends)
    return Estimate(value, low, high, n)


def agreement(rows: list[Row]) -> dict[str, int]:
    """Count published numbers, and those inside our intervals; {} if there are none."""
    comparable = [each for each in rows if None not in (each["published"], each["low"])]
    inside = sum(each["low"] <= each["published"] <= each["high"] for each in comparable)
    return {"published_inside": inside, "published": len(comparable)} if comparable else {}
