"""The run: executes attacks on a claim's images, measures every result again, and keeps the records.

Probes ask it for records and features; only it knows devices, batches and files.
"""

from __future__ import annotations

import copy
import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from scotoma._version import __version__
from scotoma.attacks.core.oracle import Counted
from scotoma.claim import Claim
from scotoma.data.dataset import Split
from scotoma.execution import records
from scotoma.execution.batching import Attack, Workbench, ask, finite
from scotoma.execution.budget import Budget, Watched
from scotoma.execution.fingerprint import attack_id, describe, fingerprint, name
from scotoma.execution.sampling import shuffled, units
from scotoma.execution.store import Store, Unit
from scotoma.models.classifier import Classifier
from scotoma.models.features import features
from scotoma.utils.errors import InputError
from scotoma.utils.progress import Progress, Silent
from scotoma.utils.random import Randomness

IN_MEMORY = 2**28
"""Values of features that are kept in memory, a gigabyte."""

Transform = Callable[[Tensor], Tensor]
Look = Callable[[nn.Module, Tensor, Tensor, Randomness], dict[str, Tensor]]


class Run(Workbench):
    """One audit's work on one claim.

    Args:
        claim: the model, checked (`Classifier.checked`), its data and threat.
        folder: the run folder; work found there is not done again.
        limit: how many test images are audited, drawn at random with `seed`; None means all.
        seed: of the draw of images and of every attack.
        progress: where to show how far it is.
        budget: the time for all of it; work that is begun after it raises `OutOfTimeError`.

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
    ):
        if limit is not None and limit < 1:
            raise InputError(f"--limit {limit}: want at least one image")
        if not 0 <= seed < 2**63:
            raise InputError(f"--seed {seed}: want a number from 0 to 2^63 - 1")
        super().__init__(claim, seed)
        self.budget = budget or Budget()
        self.progress: Progress = Watched(progress or Silent(), self.budget)
        self.model = self._module(claim.model)
        self.reduced = self._pays_in_bf16(self.model)
        self.store = Store(
            folder,
            {
                "model": claim.model.name,
                "model_sha256": claim.model.sha256,
                "data": claim.data.name,
                "data_sha256": claim.data.sha256,
                "threat": str(claim.threat),
            },
            self.budget,
        )
        order = shuffled(len(claim.data.test), seed)[:limit]
        self.indices = torch.cat([unit.sort().values for unit in units(order)])
        self._done: dict[tuple[str, str], pl.DataFrame] = {}
        self._told: tuple[Classifier, Tensor, Tensor] | None = None

    @property
    def records(self) -> pl.DataFrame:
        """All records so far, one row an image, attack and transform: the columns of `records.measure` without the images,
        and `attack` and `transform`."""
        return (
            pl.concat(self._done.values()).sort("attack", "transform", "index")
            if self._done
            else pl.DataFrame()
        )

    @property
    def passes(self) -> dict[str, int]:
        """Forward and backward passes of all records so far."""
        return {
            kind: sum(int(frame[kind].sum()) for frame in self._done.values())
            for kind in ("forwards", "backwards")
        }

    def attack(
        self, attack: Attack, transform: Transform | None = None, what: str = "attacking"
    ) -> pl.DataFrame:
        """Records of an attack on every audited image, after `transform`; see `records.measure` for the columns."""
        wanted = pl.exclude(records.EXAMPLE)
        frame = pl.concat([unit.select(wanted) for unit in self._units(attack, transform, what)])
        self._done[name(attack), name(transform)] = frame
        return frame

    def examples(
        self, attack: Attack, transform: Transform | None, indices: list[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Original, transformed and adversarial images of the given test images, float32 (k, c, h, w) each.

        All of `indices` must be successes of that attack.
        """
        chosen = pl.DataFrame({"index": indices})
        wanted = pl.col("index").is_in(indices)
        kept = pl.concat(
            [unit.filter(wanted) for unit in self._units(attack, transform, "reading")]
        ).select("index", records.EXAMPLE)
        adversarial = chosen.join(kept, on="index", maintain_order="left")[
            records.EXAMPLE
        ].to_numpy()
        originals = self.claim.data.test.images(torch.tensor(indices))
        moved = transform(originals) if transform else originals
        return (
            originals.numpy(),
            moved.numpy(),
            np.stack(list(adversarial)).reshape(originals.shape),
        )

    def crafted(
        self, attack: Attack, source: Classifier, what: str = "crafting"
    ) -> Iterator[pl.DataFrame]:
        """What an attack makes of every audited image on `source`, fooled there or not: one table a work unit, made once for all
        the models that it is tried on.

        Columns: index, forwards, backwards (on the source), adversarial (the image, flat float32). An image is given the random
        numbers that it has in `attack`, on any source.
        """
        module = self._module(source)
        reduced = self.reduced if source is self.claim.model else self._pays_in_bf16(module)
        search = "bf16" if reduced else "float32"
        config = {
            "kind": "crafted",
            "attack": describe(attack),
            "seed": self.seed,
            "search": search,
        }

        def compute(indices: Tensor) -> pl.DataFrame:
            with self._seeded():
                return pl.concat(
                    self._batches(
                        indices,
                        partial(self._craft_batch, attack, module, reduced),
                        lambda images: None,
                    )
                )

        with self.progress.bar(what, len(self.indices)) as advance:
            parts = units(self.indices)
            work = [
                Unit({**config, **self._identity(indices, source)}, partial(compute, indices))
                for indices in parts
            ]
            for indices, unit in zip(parts, self.store.each(work), strict=True):
                yield unit
                advance(len(indices))

    def transferred(
        self,
        attack: Attack,
        source: Classifier,
        target: Classifier | None = None,
        what: str = "transferring",
    ) -> pl.DataFrame:
        """Records of what `crafted` made on `source` when it is shown to `target`, None for the audited model; see
        `records.measure` for the columns. Passes are those on the source. On the audited model they are among `records`, as
        "ATTACK on SOURCE"."""
        model = target or self.claim.model
        module, clean = self._module(model), self._clean(model)
        split, frames, start = self.claim.data.test, [], 0
        for unit in self.crafted(attack, source, what):
            held = {
                column: torch.from_numpy(unit[column].to_numpy(writable=True))
                for column in unit.columns
            }
            told = clean[start : start + len(unit)]

            def show(
                rows: Tensor, held: dict[str, Tensor] = held, told: Tensor = told
            ) -> pl.DataFrame:
                indices = held["index"][rows]
                images, labels = (
                    self._place(split.images(indices)),
                    split.labels[indices].to(self.device),
                )
                shown = self._place(held[records.EXAMPLE][rows].view_as(images))
                passes = held["forwards"][rows], held["backwards"][rows]
                return records.measure(
                    module, indices, images, labels, shown, passes, told[rows]
                ).drop(records.EXAMPLE)

            with self._seeded():
                frames += self._batches(torch.arange(len(unit)), show, lambda images: None)
            start += len(unit)
        label = f"{name(attack)} on {name(source)}"
        frame = pl.concat(frames).with_columns(
            pl.lit(label).alias("attack"), pl.lit(name(None)).alias("transform")
        )
        if target is None:
            self._done[label, name(None)] = frame
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
        """Features of a split's images in a layer, float32 (n, d).

        Args:
            split: whose images.
            layer: what `models.features.features` reads.
            indices: of the images; None means all.
            model: whose layer; None is the audited model.
            transform: done to the images before.
        """
        indices = torch.arange(len(split)) if indices is None else indices
        module = self._module(model or self.claim.model)
        held: np.ndarray | None = None

        def read(rows: Tensor) -> None:
            nonlocal held
            images = split.images(indices[rows])
            read = (
                features(module, self._place(transform(images) if transform else images), layer)
                .cpu()
                .numpy()
            )
            if held is None:
                held = self._room((len(indices), read.shape[1]))
            held[int(rows[0]) : int(rows[-1]) + 1] = read

        with self.progress.bar("reading features", len(indices)) as advance, self._seeded():
            self._batches(torch.arange(len(indices)), read, advance)
        assert held is not None
        return held

    def _room(self, shape: tuple[int, int]) -> np.ndarray:
        """float32 to be filled: in memory, or if that is much to ask in a file that goes with the array."""
        if math.prod(shape) <= IN_MEMORY:
            return np.empty(shape, np.float32)
        with tempfile.TemporaryFile(dir=self.store.folder) as file:
            return np.memmap(file, np.float32, "w+", shape=shape)

    def table(
        self,
        kind: str,
        config: dict[str, Any],
        compute: Callable[[], pl.DataFrame],
        model: Classifier | None = None,
    ) -> pl.DataFrame:
        """A table of a probe's own, computed once for this claim, these images, `config` and, if another `model` than the audited
        one has a part in it, that model."""
        other = {"extractor": fingerprint(model)} if model else {}
        return self.store.unit(
            {"kind": kind, **config, **other, **self._identity(self.indices)}, compute
        )

    def map_images(
        self, what: str, config: dict[str, Any], look: Look, model: Classifier | None = None
    ) -> pl.DataFrame:
        """What `look` sees at the audited images that the model has right, computed once: `index`, and the columns of `look`.

        Args:
            what: names the table.
            config: all that decides what is seen, besides the models and the images.
            look: from the model, images, labels and random numbers to columns, (n,) each; or one image to as many rows as it likes.
            model: another one that has a part in it.
        """

        def see(indices: Tensor) -> pl.DataFrame:
            images, labels = (
                self._place(split.images(indices)),
                split.labels[indices].to(self.device),
            )
            random = Randomness(self.seed, indices.to(self.device), what)
            seen = {
                name: column.detach().cpu().numpy()
                for name, column in look(self.model, images, labels, random).items()
            }
            rows = len(next(iter(seen.values())))
            return pl.DataFrame(
                {"index": indices.repeat_interleave(rows // len(indices)).numpy(), **seen}
            )

        def compute(part: Tensor) -> pl.DataFrame:
            right = part[correct[part]]
            if not len(right):
                return pl.DataFrame({"index": right.numpy()})
            with self._seeded():
                return pl.concat(self._batches(right, see, lambda images: None))

        split, parts, frames = self.claim.data.test, units(self.indices), []
        correct = torch.zeros(len(split), dtype=torch.bool)
        correct[self.indices] = (
            self._clean(self.claim.model).argmax(1).cpu() == split.labels[self.indices]
        )
        config = {
            "kind": what,
            **config,
            "seed": self.seed,
            **({"extractor": fingerprint(model)} if model else {}),
        }
        with self.progress.bar(f"examining: {what}", len(self.indices)) as advance:
            work = [
                Unit({**config, **self._identity(part)}, partial(compute, part)) for part in parts
            ]
            for part, frame in zip(parts, self.store.each(work), strict=True):
                frames.append(frame)
                advance(len(part))
        return pl.concat([frame for frame in frames if len(frame)] or frames[:1])

    def predictions(self, transform: Transform | None = None) -> pl.DataFrame:
        """What the model says of every test image, audited or not, after `transform`: `index`, `label`, `prediction`."""
        split = self.claim.data.test
        everything = torch.arange(len(split))

        def answer(batch: Tensor) -> np.ndarray:
            images = split.images(batch)
            return (
                records.verified_logits(
                    self.model, self._place(transform(images) if transform else images)
                )
                .argmax(1)
                .cpu()
                .numpy()
            )

        def compute() -> pl.DataFrame:
            with self.progress.bar("classifying", len(everything)) as advance, self._seeded():
                found = np.concatenate(self._batches(everything, answer, advance))
            return pl.DataFrame(
                {"index": everything.numpy(), "label": split.labels.numpy(), "prediction": found}
            )

        config = {"kind": "predictions", "transform": describe(transform) if transform else None}
        return self.store.unit({**config, **self._identity(everything)}, compute)

    def correct_indices(self, n: int, transform: Transform | None = None) -> Tensor:
        """Test images that the model has right after `transform`: the first `n` of a random order, or all where there are fewer.

        int64, ascending. The order belongs to the seed, so that fewer images are among the more, also after another transform.
        """
        told = self.predictions(transform)
        correct = torch.from_numpy((told["prediction"] == told["label"]).to_numpy())
        order = shuffled(len(correct), self.seed)
        return order[correct[order]][:n].sort().values

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Where work ends when the budget is over, in the middle of an attack."""
        with self.budget.watching(self.model):
            yield

    def subset(self, indices: Tensor) -> Run:
        """This run on other test images, int64; the records of both are in either's."""
        other = copy.copy(self)
        other.indices = indices
        return other

    def _units(
        self, attack: Attack, transform: Transform | None, what: str
    ) -> Iterator[pl.DataFrame]:
        """The records of each work unit, with the images."""
        labels = {"attack": name(attack), "transform": name(transform) if transform else "none"}
        config = {
            "kind": "attack",
            "attack": describe(attack),
            "transform": describe(transform) if transform else None,
            "seed": self.seed,
            "search": "bf16" if self.reduced else "float32",
        }
        parts, told = units(self.indices), set[int]()
        with self.progress.bar(what, len(self.indices)) as advance:

            def compute(number: int) -> pl.DataFrame:
                told.add(number)
                with self._seeded():
                    frame = pl.concat(
                        self._batches(
                            parts[number], partial(self._attack_batch, attack, transform), advance
                        )
                    )
                return frame.with_columns(
                    pl.lit(value).alias(column) for column, value in labels.items()
                )

            work = [
                Unit({**config, **self._identity(part)}, partial(compute, number))
                for number, part in enumerate(parts)
            ]
            for number, unit in enumerate(self.store.each(work)):
                if number not in told:
                    advance(len(parts[number]))
                yield unit

    def _attack_batch(
        self, attack: Attack, transform: Transform | None, indices: Tensor
    ) -> pl.DataFrame:
        """Attack the images that the model has right and measure the results."""
        split = self.claim.data.test
        images = split.images(indices)
        images = self._place(transform(images) if transform else images)
        labels = split.labels[indices].to(self.device)
        logits = finite(records.verified_logits(self.model, images), indices, self.claim.model)
        right = (logits.argmax(1) == labels).nonzero().squeeze(1)
        counted = Counted(self.model, len(right), self.device, self.reduced)
        adversarial = images.clone()
        if len(right):
            random = Randomness(
                self.seed, indices.to(self.device)[right], f"{attack_id(attack)} {name(transform)}"
            )
            adversarial[right] = ask(attack, counted, images[right], labels[right], random)
        passes = []
        for counts in (counted.forwards, counted.backwards):
            spread = torch.zeros_like(labels)
            spread[right] = counts
            passes.append(spread)
        return records.measure(
            self.model, indices, images, labels, adversarial, (passes[0], passes[1])
        )

    def _craft_batch(
        self, attack: Attack, module: nn.Module, reduced: bool, indices: Tensor
    ) -> pl.DataFrame:
        """Attack all images on a source and measure nothing."""
        images = self._place(self.claim.data.test.images(indices))
        labels = self.claim.data.test.labels[indices].to(self.device)
        counted = Counted(module, len(indices), self.device, reduced)
        random = Randomness(self.seed, indices.to(self.device), f"{attack_id(attack)} {name(None)}")
        found = ask(attack, counted, images.clone(), labels, random)
        columns = {"index": indices, "forwards": counted.forwards, "backwards": counted.backwards}
        frame = pl.DataFrame({column: values.cpu().numpy() for column, values in columns.items()})
        flat = found.flatten(1).float().cpu().numpy()
        return frame.with_columns(
            pl.Series(records.EXAMPLE, flat, dtype=pl.Array(pl.Float32, flat.shape[1]))
        )

    def _clean(self, model: Classifier) -> Tensor:
        """float32 logits (n, classes) of the audited images, kept for the model that was asked for last."""
        if self._told is None or self._told[0] is not model or self._told[1] is not self.indices:
            module, split = self._module(model), self.claim.data.test

            def answer(batch: Tensor) -> Tensor:
                return finite(
                    records.verified_logits(module, self._place(split.images(batch))), batch, model
                )

            with self._seeded():
                told = torch.cat(
                    [
                        row
                        for part in units(self.indices)
                        for row in self._batches(part, answer, lambda images: None)
                    ]
                )
            self._told = model, self.indices, told
        return self._told[2]

    def _identity(self, indices: Tensor, model: Classifier | None = None) -> dict[str, Any]:
        return {
            "scotoma": __version__,
            **fingerprint(model or self.claim.model),
            "data": self.claim.data.sha256,
            "images": hashlib.sha256(indices.numpy().tobytes()).hexdigest(),
        }
