"""The run: executes attacks on a claim's images, evaluates each result again, keeps the records.

Probes ask it for records and features; only the run knows devices, batches and files.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs
import torch
from torch import Tensor, nn

from scotoma._version import __version__
from scotoma.claim import Claim
from scotoma.data.dataset import Dataset, Split
from scotoma.execution import evaluation
from scotoma.execution.batching import Attack, Executor, Transform
from scotoma.execution.budget import Budget
from scotoma.execution.collection import Collection
from scotoma.execution.evaluation import finite_logits
from scotoma.execution.features import read_features
from scotoma.execution.fingerprint import describe, fingerprint, name
from scotoma.execution.keeping import DROPPED, KEPT, without_images
from scotoma.execution.records import EXAMPLE, fallen, is_correct, verified_logits
from scotoma.execution.sampling import shuffled, units
from scotoma.execution.store import Store, Unit
from scotoma.models.classifier import Classifier
from scotoma.results import examples
from scotoma.results.ledger import Ledger
from scotoma.utils.errors import InputError
from scotoma.utils.progress import Advance, Progress, Silent
from scotoma.utils.random import Randomness

ATTACK, ASIDE = "attack", "attack-aside"
"""Kinds of work units: attacks on test images, and on other images."""
Measurement = Callable[[nn.Module, Tensor, Tensor, Randomness], dict[str, Tensor]]
"""From the model, images, labels and random numbers to named columns."""


class Run(Executor):
    """One audit's work on one claim.

    Args:
        claim: the model, already checked (`Classifier.checked`), its data and threat.
        folder: the run folder; finished work in it is reused.
        limit: number of test images to audit, drawn at random with `seed`; None is all of them.
        seed: seed of the draw of images and of every attack.
        progress: where progress is shown.
        budget: the time for everything; work that begins later raises `OutOfTimeError`.
        keep: which adversarial images stay on disk (`execution.keeping`); with "none" those of
            attacks are never written.

    Raises:
        InputError: a limit below 1, a negative seed, or a folder that holds something else.
    """

    def __init__(
        self,
        claim: Claim,
        folder: Path,
        *,
        limit: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        budget: Budget | None = None,
        keep: str = KEPT[0],
    ):
        for option, value in {"limit": limit, "seed": seed}.items():
            if value is not None and not isinstance(value, Integral):
                raise InputError(f"{option}={value!r}: want a whole number")
        if limit is not None and limit < 1:
            raise InputError(f"limit={limit}: want at least one image")
        if not 0 <= seed < 2**63:
            raise InputError(f"seed={seed}: want a number from 0 to 2^63 - 1")
        super().__init__(claim, seed)
        self.budget = budget or Budget()
        self.progress = progress or Silent()
        identity = {
            "model": claim.model.name,
            "model_sha256": claim.model.sha256,
            "data": claim.data.name,
            "data_sha256": claim.data.sha256,
            "threat": str(claim.threat),
        }
        self.store = Store(folder, identity, self.budget)
        order = shuffled(len(claim.data.test), seed)[:limit]
        self.indices = torch.cat([unit.sort().values for unit in units(order)])
        self.collection = Collection()
        self._clean_logits: tuple[Classifier, Tensor, Tensor] | None = None
        self._kind = ATTACK
        self.keep = keep

    @property
    def records(self) -> pl.DataFrame:
        """All records so far, one row for each image, attack and transform.

        The columns are those of `records.measure` without the images, and `attack` and `transform`.
        """
        return self.collection.records

    @property
    def passes(self) -> dict[str, int]:
        """Number of forward and backward passes of all records so far."""
        return self.collection.passes

    @property
    def ledger(self) -> Ledger:
        """All records so far, joined by audited image."""
        return self.collection.ledger(self.indices.numpy())

    def attack(
        self, attack: Attack, transform: Transform | None = None, what: str = "attacking"
    ) -> pl.DataFrame:
        """Attack every audited image after `transform` and return the records.

        See `records.measure` for the columns; `what` names the work in the progress bar.
        """
        tables = self._attacked(attack, transform, what)
        frame = pl.concat([table.drop(EXAMPLE, examples.ROUNDING) for table in tables])

        def read(indices: list[int]) -> pl.DataFrame:
            rows = _rows(self._attacked(attack, transform, "reading"), indices)
            return self._unpacked(rows, transform)

        self.collection.keep(frame, name(attack), name(transform), read)
        return frame

    def examples(
        self, attacks: Sequence[str], transform: Transform | None, indices: list[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return original, transformed and adversarial test images, float32 (k, c, h, w) each.

        `attacks` names for each image an attack that succeeded on it, as records do. Adversarial
        images that are not kept are returned as they were before the attack.
        """
        originals = self.claim.data.test.images(torch.tensor(indices))
        transformed = transform(originals) if transform else originals
        if self.keep == DROPPED:
            return originals.numpy(), transformed.numpy(), transformed.numpy()
        table = self.collection.examples(attacks, name(transform), indices)
        adversarial = np.stack(list(table[EXAMPLE].to_numpy())).reshape(originals.shape)
        return originals.numpy(), transformed.numpy(), adversarial

    def certify(self, radii: pl.DataFrame, norm: str, transform: Transform | None = None) -> None:
        """Keep certified radii for the ledger, see `Collection.certify`."""
        self.collection.certify(radii, norm, name(transform))

    def crafted(
        self, attack: Attack, source: Classifier, what: str = "crafting"
    ) -> Iterator[pl.DataFrame]:
        """Yield the examples that an attack crafts on `source`, one table a work unit.

        They are crafted from every audited image, once for all target models, and kept whether
        `source` is fooled or not. Columns: index, forwards, backwards (on the source), adversarial
        (the image, flat float32), attack (its name). The random numbers of an image do not depend
        on the source.
        """
        module = self.module(source)
        reduced = self.reduced if source is self.claim.model else self.pays_in_bf16(module)
        config = {
            "kind": "crafted",
            "attack": describe(attack),
            "seed": self.seed,
            "search": "bf16" if reduced else "float32",
            "images": examples.CODE,
        }
        craft = partial(evaluation.craft_batch, self, attack, module, reduced)

        def compute(indices: Tensor, _advance: Advance) -> pl.DataFrame:
            with self.seeded():
                frame = pl.concat(self.map_batches(indices, craft, reads=self.claim.data.test))
            return self._packed(frame.with_columns(attack=pl.lit(name(attack))), None)

        for frame in self._units(what, config, compute, source):
            yield self._unpacked(frame, None)

    def transferred(
        self,
        attack: Attack,
        source: Classifier,
        target: Classifier | None = None,
        what: str = "transferring",
    ) -> pl.DataFrame:
        """Return the records of the images `crafted` on `source` when `target` classifies them.

        Passes are those on the source. If `target` is None it is the audited model, and the records
        are among `records`, as "ATTACK on SOURCE". See `records.measure` for the columns.
        """
        model = target or self.claim.model
        module, clean = self.module(model), self._clean(model)
        frames, start = [], 0
        for crafted in self.crafted(attack, source, what):
            end = start + len(crafted)
            work = partial(evaluation.transfer_batch, self, module, crafted, clean[start:end])
            with self.seeded():
                frames += self.map_batches(torch.arange(len(crafted)), work)
            start = end
        label, unchanged = f"{name(attack)} on {name(source)}", name(None)
        frame = pl.concat(frames).with_columns(attack=pl.lit(label), transform=pl.lit(unchanged))
        if target is None:

            def read(indices: list[int]) -> pl.DataFrame:
                return _rows(self.crafted(attack, source, "reading"), indices)

            self.collection.keep(frame, label, unchanged, read)
        return frame

    def features(
        self,
        split: Split,
        layer: str | None,
        indices: Tensor | None = None,
        *,
        model: Classifier | None = None,
        transform: Transform | None = None,
    ) -> np.ndarray:
        """Return features of a split's images in a layer, float32 (n, d).

        Args:
            layer: see `models.features.features`.
            indices: which images; None is all of them.
            model: the model with that layer; None is the audited model.
            transform: applied to the images first.
        """
        indices = torch.arange(len(split)) if indices is None else indices
        module = self.module(model or self.claim.model)
        with self.progress.bar("reading features", len(indices)) as advance:
            return read_features(
                self, self.store.folder, module, split, layer, indices, transform, advance
            )

    def table(
        self,
        kind: str,
        config: dict[str, Any],
        compute: Callable[[], pl.DataFrame],
        model: Classifier | None = None,
    ) -> pl.DataFrame:
        """Return a probe's own table, computed once for this claim, these images and `config`.

        A `model` other than the audited one is part of what identifies the table.
        """
        config = {"kind": kind, **config, **_extractor(model), **self._identity(self.indices)}
        return self.store.unit(config, compute)

    def shared(self, kind: str, compute: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        """Return a table that is computed once for this model and data, whichever the images."""
        nothing = torch.zeros(0, dtype=torch.int64)
        return self.store.unit({"kind": kind, **self._identity(nothing)}, compute)

    def map_images(
        self,
        what: str,
        config: dict[str, Any],
        measure: Measurement,
        model: Classifier | None = None,
    ) -> pl.DataFrame:
        """Return what `measure` computes on the correctly classified audited images.

        The columns are `index` and those of `measure`; each work unit is computed once.

        Args:
            what: name of the table, which also seeds the random numbers.
            config: all that decides the result besides the models and the images.
            measure: returns columns of n values, or of n times as many if an image has several.
        """

        def measure_batch(indices: Tensor) -> pl.DataFrame:
            images, labels = self.test_images(indices)
            random = Randomness(self.seed, indices.to(self.device), what)
            columns = {
                name: column.detach().cpu().numpy()
                for name, column in measure(self.model, images, labels, random).items()
            }
            repeats = len(next(iter(columns.values()))) // len(indices)
            return pl.DataFrame({"index": indices.repeat_interleave(repeats).numpy(), **columns})

        def compute(unit: Tensor, _advance: Advance) -> pl.DataFrame:
            unit = unit[correct[unit]]
            if not len(unit):
                return pl.DataFrame({"index": unit.numpy()})
            with self.seeded():
                return pl.concat(self.map_batches(unit, measure_batch, reads=self.claim.data.test))

        split = self.claim.data.test
        correct = torch.zeros(len(split), dtype=torch.bool)
        predictions = self._clean(self.claim.model).argmax(1).cpu()
        correct[self.indices] = predictions == split.labels[self.indices]
        config = {"kind": what, **config, "seed": self.seed, **_extractor(model)}
        frames = list(self._units(f"measuring: {what}", config, compute))
        return pl.concat([frame for frame in frames if len(frame)] or frames[:1])

    def predictions(
        self, transform: Transform | None = None, most: int | None = None
    ) -> pl.DataFrame:
        """Return the model's predictions on every test image, audited or not, after `transform`.

        Columns: index, label, prediction. Only `most` images are classified if there are more,
        drawn at random with the seed.
        """
        labels = self.claim.data.test.labels
        everything = shuffled(len(labels), self.seed)[:most].sort().values

        def predict(batch: Tensor) -> np.ndarray:
            images, _ = self.test_images(batch, transform)
            return verified_logits(self.model, images).argmax(1).cpu().numpy()

        def compute() -> pl.DataFrame:
            with self.progress.bar("classifying", len(everything)) as advance, self.seeded():
                classes = self.map_batches(everything, predict, advance, self.claim.data.test)
            columns = {"index": everything.numpy(), "label": labels[everything].numpy()}
            return pl.DataFrame(columns | {"prediction": np.concatenate(classes)})

        config = {"kind": "predictions", "transform": describe(transform) if transform else None}
        return self.store.unit({**config, **self._identity(everything)}, compute)

    def correct_indices(self, n: int, transform: Transform | None = None) -> Tensor:
        """Return `n` test images that the model classifies correctly after `transform`.

        They are the first of a random order that depends on the seed alone, so that a smaller `n`
        gives a subset; all are returned where there are fewer. int64, ascending.
        """
        table = self.predictions(transform)
        correct = torch.from_numpy(is_correct(table))
        order = shuffled(len(correct), self.seed)
        return order[correct[order]][:n].sort().values

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Let work end once the budget is spent, even in the middle of an attack."""
        with self.budget.watching(self.model), self.progress.checking(self.budget.check):
            yield

    def subset(self, indices: Tensor) -> Run:
        """Return this run on other test images, int64; both share their records."""
        run = copy.copy(self)
        run.indices = indices
        return run

    def alone(self) -> Run:
        """Return this run without its records so far; both keep what the new one measures."""
        run = copy.copy(self)
        run.collection = Collection(self.collection)
        return run

    def apart(self) -> Run:
        """Return this run with records of its own, which do not enter those of this one."""
        run = copy.copy(self)
        run.collection = Collection()
        return run

    def aside(self, data: Dataset, indices: Tensor) -> Run:
        """Return this run on other images than the claim's test images, with records of its own.

        They are attacked and evaluated as test images are, but enter neither the records nor the
        ledger of this run, whose rows are test images. `indices`, int64, are of the test images of
        `data`, which have the size and the classes of the claim's.
        """
        run = self.apart()
        run.claim, run.indices = replace(self.claim, data=data), indices
        run._kind, run._clean_logits = ASIDE, None
        return run

    def _attacked(
        self, attack: Attack, transform: Transform | None, what: str
    ) -> Iterator[pl.DataFrame]:
        """Yield the records of each work unit, with the images."""
        labels = {"attack": pl.lit(name(attack)), "transform": pl.lit(name(transform))}
        config = {
            "kind": self._kind,
            "attack": describe(attack),
            "transform": describe(transform) if transform else None,
            "seed": self.seed,
            "search": "bf16" if self.reduced else "float32",
            "images": DROPPED if self.keep == DROPPED else examples.CODE,
        }
        work = partial(evaluation.attack_batch, self, attack, transform)

        def compute(unit: Tensor, advance: Advance) -> pl.DataFrame:
            with self.seeded():
                frame = pl.concat(self.map_batches(unit, work, advance, self.claim.data.test))
            frame = frame.with_columns(**labels)
            return without_images(frame) if self.keep == DROPPED else self._packed(frame, transform)

        done, fooled = 0, 0
        for frame in self._units(what, config, compute):
            within = fallen(frame, self.claim.threat.eps, self.claim.threat.norm)
            done, fooled = done + len(frame), fooled + int(within.sum())
            self.progress.say(f"{fooled:,} of {done:,} fooled within eps")
            yield frame

    def _packed(self, table: pl.DataFrame, transform: Transform | None) -> pl.DataFrame:
        """Return records as they are stored, with their images as differences."""
        return examples.pack(table, self._attacked_images(table, transform))

    def _unpacked(self, table: pl.DataFrame, transform: Transform | None) -> pl.DataFrame:
        return examples.unpack(table, self._attacked_images(table, transform))

    def _attacked_images(self, table: pl.DataFrame, transform: Transform | None) -> np.ndarray:
        """Return the images before the attack, flat; they never leave the processor."""
        images = self.claim.data.test.images(table["index"].to_torch())
        return (transform(images) if transform else images).flatten(1).numpy()

    def _units(
        self,
        what: str,
        config: dict[str, Any],
        compute: Callable[[Tensor, Advance], pl.DataFrame],
        model: Classifier | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield each work unit's table, computed where it is not yet on disk."""
        parts = units(self.indices)
        remaining = [len(part) for part in parts]
        with self.progress.bar(what, len(self.indices)) as advance:

            def compute_part(number: int) -> pl.DataFrame:
                def step(images: int) -> None:
                    remaining[number] -= images
                    advance(images)

                return compute(parts[number], step)

            work = [
                Unit({**config, **self._identity(part, model)}, partial(compute_part, number))
                for number, part in enumerate(parts)
            ]
            for number, frame in enumerate(self.store.each(work)):
                if remaining[number]:
                    advance(remaining[number])
                yield frame

    def _clean(self, model: Classifier) -> Tensor:
        """Return float32 logits (n, classes) of the audited images, cached for the last model."""
        cached = self._clean_logits
        if cached is None or cached[0] is not model or cached[1] is not self.indices:
            module = self.module(model)

            def classify(batch: Tensor) -> Tensor:
                images, _ = self.test_images(batch)
                return finite_logits(verified_logits(module, images), batch, model)

            with self.seeded():
                rows = [
                    row
                    for part in units(self.indices)
                    for row in self.map_batches(part, classify, reads=self.claim.data.test)
                ]
            self._clean_logits = cached = model, self.indices, torch.cat(rows)
        return cached[2]

    def _identity(self, indices: Tensor, model: Classifier | None = None) -> dict[str, Any]:
        """Return what a work unit depends on besides its configuration."""
        return {
            "scotoma": __version__,
            **fingerprint(model or self.claim.model),
            "data": self.claim.data.sha256,
            "images": hashlib.sha256(indices.numpy().tobytes()).hexdigest(),
        }


def _rows(tables: Iterator[pl.DataFrame], indices: list[int]) -> pl.DataFrame:
    """Return `index` and the stored image of some rows of work units."""
    selection = pl.col("index").is_in(indices)
    columns = cs.by_name("index", EXAMPLE, examples.ROUNDING, require_all=False)
    rows = [table.filter(selection).select(columns) for table in tables]
    kinds = {table.schema[EXAMPLE] for table in rows}
    return pl.concat(map(examples.as_bytes, rows) if len(kinds) > 1 else rows)


def _extractor(model: Classifier | None) -> dict[str, Any]:
    return {"extractor": fingerprint(model)} if model else {}
