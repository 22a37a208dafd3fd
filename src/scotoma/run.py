"""The run: executes attacks on a claim's images, measures every result again, and keeps the records.

Probes ask it for records and features; only it knows devices, batches and files.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
import torch
from torch import Tensor

from scotoma import __version__, engine, records
from scotoma.attacks.oracle import Counted
from scotoma.claim import Claim
from scotoma.data.dataset import Split
from scotoma.errors import InputError
from scotoma.models.classifier import Classifier
from scotoma.models.features import features
from scotoma.progress import Progress, Silent
from scotoma.randomness import Randomness
from scotoma.store import Store

UNIT = 250
"""Images in a work unit: what is lost when a run is killed, and the granularity of its files."""

Attack = Callable[..., Tensor]
Transform = Callable[[Tensor], Tensor]
T = TypeVar("T")


class Run:
    """One audit's work on one claim.

    Args:
        claim: the model, checked (`Classifier.checked`), its data and threat.
        folder: the run folder; work found there is not done again.
        limit: how many test images are audited, drawn at random with `seed`; None means all.
        seed: of the draw of images and of every attack.
        progress: where to show how far it is.

    Raises:
        InputError: a limit below 1, a negative seed, or a folder that holds something else.
    """

    def __init__(self, claim: Claim, folder: Path, *, limit: int | None = None, seed: int = 0, progress: Progress | None = None):
        if limit is not None and limit < 1:
            raise InputError(f"--limit {limit}: want at least one image")
        if not 0 <= seed < 2**63:
            raise InputError(f"--seed {seed}: want a number from 0 to 2^63 - 1")
        self.claim = claim
        self.seed = seed
        self.progress = progress or Silent()
        self.device = engine.default_device()
        self.batch_size = engine.batch_size(self.device, math.prod(claim.data.shape))
        self.model = claim.model.module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        with self._seeded():  # a randomised model draws numbers
            self.reduced = engine.pays_in_bf16(self.model, self._place(claim.data.test.images(torch.arange(1))))
        self.store = Store(
            folder,
            {
                "model": claim.model.name,
                "model_sha256": claim.model.sha256,
                "data": claim.data.name,
                "data_sha256": claim.data.sha256,
                "threat": str(claim.threat),
            },
        )
        self.indices = shuffled(len(claim.data.test), seed)[:limit].sort().values
        self._done: dict[tuple[str, str], pl.DataFrame] = {}

    @property
    def records(self) -> pl.DataFrame:
        """All records so far, one row an image, attack and transform: the columns of `records.measure` without the images,
        and `attack` and `transform`."""
        return pl.concat(self._done.values()).sort("attack", "transform", "index") if self._done else pl.DataFrame()

    @property
    def passes(self) -> dict[str, int]:
        """Forward and backward passes of all records so far."""
        return {kind: sum(int(frame[kind].sum()) for frame in self._done.values()) for kind in ("forwards", "backwards")}

    def attack(self, attack: Attack, transform: Transform | None = None, what: str = "attacking") -> pl.DataFrame:
        """Records of an attack on every audited image, after `transform`; see `records.measure` for the columns."""
        wanted = pl.exclude(records.EXAMPLE)
        frame = pl.concat(unit.select(wanted) for unit in self._units(attack, transform, what))
        self._done[name(attack), name(transform)] = frame
        return frame

    def examples(
        self, attack: Attack, transform: Transform | None, indices: list[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Original, transformed and adversarial images of the given test images, float32 (k, c, h, w) each.

        All of `indices` must be successes of that attack.
        """
        chosen = pl.DataFrame({"index": indices})
        kept = pl.concat(self._units(attack, transform, "reading")).select("index", records.EXAMPLE)
        adversarial = chosen.join(kept, on="index", maintain_order="left")[records.EXAMPLE].to_numpy()
        originals = self.claim.data.test.images(torch.tensor(indices))
        moved = transform(originals) if transform else originals
        return originals.numpy(), moved.numpy(), np.stack(list(adversarial)).reshape(originals.shape)

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
        module = model.module.to(self.device, memory_format=torch.channels_last) if model else self.model  # type: ignore[call-overload]

        def read(batch: Tensor) -> np.ndarray:
            images = split.images(batch)
            return features(module, self._place(transform(images) if transform else images), layer).cpu().numpy()

        with self.progress.bar("reading features", len(indices)) as advance, self._seeded():
            return np.concatenate(self._batches(indices, read, advance))

    def table(
        self, kind: str, config: dict[str, Any], compute: Callable[[], pl.DataFrame], model: Classifier | None = None
    ) -> pl.DataFrame:
        """A table of a probe's own, computed once for this claim, these images, `config` and, if another `model` than the audited
        one has a part in it, that model."""
        other = {"extractor": _fingerprint(model)} if model else {}
        return self.store.unit({"kind": kind, **config, **other, **self._identity(self.indices)}, compute)

    def predictions(self, transform: Transform | None = None) -> pl.DataFrame:
        """What the model says of every test image, audited or not, after `transform`: `index`, `label`, `prediction`."""
        split = self.claim.data.test
        everything = torch.arange(len(split))

        def answer(batch: Tensor) -> np.ndarray:
            images = split.images(batch)
            return (
                records.verified_logits(self.model, self._place(transform(images) if transform else images)).argmax(1).cpu().numpy()
            )

        def compute() -> pl.DataFrame:
            with self.progress.bar("classifying", len(everything)) as advance, self._seeded():
                found = np.concatenate(self._batches(everything, answer, advance))
            return pl.DataFrame({"index": everything.numpy(), "label": split.labels.numpy(), "prediction": found})

        config = {"kind": "predictions", "transform": describe(transform) if transform else None}
        return self.store.unit({**config, **self._identity(everything)}, compute)

    def right(self, n: int, transform: Transform | None = None) -> Tensor:
        """Test images that the model has right after `transform`: the first `n` of a random order, or all where there are fewer.

        int64, ascending. The order belongs to the seed, so that fewer images are among the more, also after another transform.
        """
        told = self.predictions(transform)
        correct = torch.from_numpy((told["prediction"] == told["label"]).to_numpy())
        order = shuffled(len(correct), self.seed)
        return order[correct[order]][:n].sort().values

    def on(self, indices: Tensor) -> Run:
        """This run on other test images, int64; the records of both are in either's."""
        other = copy.copy(self)
        other.indices = indices
        return other

    def _units(self, attack: Attack, transform: Transform | None, what: str) -> list[pl.DataFrame]:
        with self.progress.bar(what, len(self.indices)) as advance:
            return [self._unit(attack, transform, indices, advance) for indices in self.indices.split(UNIT)]

    def _unit(self, attack: Attack, transform: Transform | None, indices: Tensor, advance: Callable[[int], None]) -> pl.DataFrame:
        config = {
            "kind": "attack",
            "attack": describe(attack),
            "transform": describe(transform) if transform else None,
            "seed": self.seed,
            "search": "bf16" if self.reduced else "float32",
            **self._identity(indices),
        }
        computed = False

        def compute() -> pl.DataFrame:
            nonlocal computed
            computed = True
            with self._seeded():
                frame = pl.concat(self._batches(indices, lambda batch: self._attack_batch(attack, transform, batch), advance))
            labels = {"attack": name(attack), "transform": name(transform) if transform else "none"}
            return frame.with_columns(pl.lit(value).alias(column) for column, value in labels.items())

        frame = self.store.unit(config, compute)
        if not computed:
            advance(len(indices))
        return frame

    def _batches(self, indices: Tensor, work: Callable[[Tensor], T], advance: Callable[[int], None]) -> list[T]:
        """The results of `work` on batches of equal size, halved from then on when memory runs out."""
        results, start = [], 0
        while start < len(indices):
            left = len(indices) - start
            batch = indices[start : start + -(-left // -(-left // self.batch_size))]
            try:
                results.append(work(batch))
            except (MemoryError, RuntimeError) as error:
                if not _is_lack_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise InputError(f"one image of {self.claim.data.name} does not fit into the memory of {self.device}") from None
                self.batch_size = -(-len(batch) // 2)
                continue
            start += len(batch)
            advance(len(batch))
        return results

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """A randomised model draws the same numbers whenever the same work is done; the caller's random state is kept."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            yield

    def _attack_batch(self, attack: Attack, transform: Transform | None, indices: Tensor) -> pl.DataFrame:
        """Attack the images that the model has right and measure the results."""
        split = self.claim.data.test
        images = split.images(indices)
        images = self._place(transform(images) if transform else images)
        labels = split.labels[indices].to(self.device)
        logits = records.verified_logits(self.model, images)
        if not logits.isfinite().all():
            first = indices[int(logits.isfinite().all(1).logical_not().nonzero()[0])]
            raise InputError(f"model {self.claim.model.name} returns NaN or infinite logits for test image {int(first)}")
        right = (logits.argmax(1) == labels).nonzero().squeeze(1)
        counted = Counted(self.model, len(right), self.device, self.reduced)
        adversarial = images.clone()
        if len(right):
            random = Randomness(self.seed, indices.to(self.device)[right], f"{name(attack)} {name(transform)}")
            found = attack(counted, images[right], labels[right], generator=random)
            if not isinstance(found, Tensor) or found.shape != images[right].shape:
                got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise InputError(f"attack {name(attack)} returned {got} for images of shape {tuple(images[right].shape)}")
            adversarial[right] = found.detach().to(images)
        passes = []
        for counts in (counted.forwards, counted.backwards):
            spread = torch.zeros_like(labels)
            spread[right] = counts
            passes.append(spread)
        return records.measure(self.model, indices, images, labels, adversarial, (passes[0], passes[1]))

    def _place(self, images: Tensor) -> Tensor:
        return images.to(self.device, memory_format=torch.channels_last)

    def _identity(self, indices: Tensor) -> dict[str, Any]:
        return {
            "scotoma": __version__,
            **_fingerprint(self.claim.model),
            "data": self.claim.data.sha256,
            "images": hashlib.sha256(indices.numpy().tobytes()).hexdigest(),
        }


def _fingerprint(model: Classifier) -> dict[str, str]:
    """A model by its weights and by how it is wrapped."""
    return {"model": model.sha256, "module": hashlib.sha256(str(model.module).encode()).hexdigest()}


def shuffled(n: int, seed: int) -> Tensor:
    """The random order in which test images are taken, int64 (n,)."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def _is_lack_of_memory(error: Exception) -> bool:
    """Python's, an accelerator's, or that of torch on a CPU, which is a plain RuntimeError."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "allocate memory" in str(error) or "not enough memory" in str(error)


def name(thing: Any) -> str:
    """The name of an attack or transform with what it was set to: "ScaleShift(alpha=0.9, beta=0.05)"."""
    return "none" if thing is None else repr(thing) if is_dataclass(thing) else getattr(thing, "__qualname__", str(thing))


def describe(thing: Any) -> dict[str, Any]:
    """An attack or a transform as JSON: its type and its hyper-parameters, an attack or a transform among them alike."""
    plain = asdict(thing) if is_dataclass(thing) and not isinstance(thing, type) else {}
    for key, value in plain.items():
        inner = getattr(thing, key)
        nested = callable(inner) and is_dataclass(inner) and not isinstance(inner, type)  # asdict forgets its type
        plain[key] = describe(inner) if nested else getattr(value, "__qualname__", value)
    return {"type": f"{type(thing).__module__}.{type(thing).__qualname__}", **plain}
