"""The run: executes attacks on a claim's images, measures every result again, and keeps the records.

Probes ask it for records and features; only it knows devices, batches and files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from scotoma import __version__, engine, records
from scotoma.attacks.oracle import Counted
from scotoma.claim import Claim
from scotoma.data.dataset import Split
from scotoma.errors import InputError
from scotoma.models.features import features
from scotoma.progress import Progress, Silent
from scotoma.randomness import Randomness
from scotoma.store import Store

UNIT = 250
"""Images in a work unit: what is lost when a run is killed, and the granularity of its files."""

Attack = Callable[..., Tensor]
Transform = Callable[[Tensor], Tensor]


class Run:
    """One audit's work on one claim.

    Args:
        claim: the model, checked (`Classifier.checked`), its data and threat.
        folder: the run folder; work found there is not done again.
        limit: how many test images are audited, drawn at random with `seed`; None means all.
        seed: of the draw of images and of every attack.
        progress: where to show how far it is.
    """

    def __init__(self, claim: Claim, folder: Path, *, limit: int | None = None, seed: int = 0, progress: Progress | None = None):
        self.claim = claim
        self.seed = seed
        self.progress = progress or Silent()
        self.device = engine.default_device()
        self.model = claim.model.module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
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
        total = len(claim.data.test)
        if limit is not None and limit < 1:
            raise InputError(f"--limit {limit}: want at least one image")
        order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
        self.indices = order[:limit].sort().values if limit else torch.arange(total)
        self.forwards = self.backwards = 0

    def attack(self, attack: Attack, transform: Transform | None = None, what: str = "attacking") -> pl.DataFrame:
        """Records of an attack on every audited image, after `transform`; see `records.measure` for the columns."""
        wanted = pl.exclude(records.EXAMPLE)
        frames = [frame.select(wanted) for frame in self._units(attack, transform, what)]
        return pl.concat(frames)

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

    def features(self, split: Split, layer: str | None, indices: Tensor | None = None) -> np.ndarray:
        """Features of a split's images (all, or those of `indices`) in a layer of the audited model, float32 (n, d)."""
        indices = torch.arange(len(split)) if indices is None else indices
        parts: list[np.ndarray] = []
        with self.progress.bar("reading features", len(indices)) as advance:
            for batch in indices.split(engine.batch_size(self.device)):
                images = self._place(split.images(batch))
                parts.append(features(self.model, images, layer).cpu().numpy())
                advance(len(batch))
        return np.concatenate(parts)

    def table(self, kind: str, config: dict[str, Any], compute: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        """A table of a probe's own, computed once for this claim, these images and `config`."""
        return self.store.unit({"kind": kind, **config, **self._identity(self.indices)}, compute)

    def _units(self, attack: Attack, transform: Transform | None, what: str) -> list[pl.DataFrame]:
        with self.progress.bar(what, len(self.indices)) as advance:
            return [self._unit(attack, transform, indices, advance) for indices in self.indices.split(UNIT)]

    def _unit(self, attack: Attack, transform: Transform | None, indices: Tensor, advance: Callable[[int], None]) -> pl.DataFrame:
        config = {
            "kind": "attack",
            "attack": describe(attack),
            "transform": describe(transform) if transform else None,
            "seed": self.seed,
            **self._identity(indices),
        }
        computed = False

        def compute() -> pl.DataFrame:
            nonlocal computed
            computed = True
            torch.manual_seed(self.seed)  # a randomised model draws the same numbers whenever the unit is computed
            frame = self._execute(attack, transform, indices, advance)
            labels = {"attack": name(attack), "transform": name(transform) if transform else "none"}
            return frame.with_columns(pl.lit(value).alias(column) for column, value in labels.items())

        frame = self.store.unit(config, compute)
        if not computed:
            advance(len(indices))
        self.forwards += int(frame["forwards"].sum())
        self.backwards += int(frame["backwards"].sum())
        return frame

    def _execute(
        self, attack: Attack, transform: Transform | None, indices: Tensor, advance: Callable[[int], None]
    ) -> pl.DataFrame:
        """Attack the images that the model has right, in batches halved when memory runs out, and measure the results."""
        size = engine.batch_size(self.device)
        pending = list(indices.split(-(-len(indices) // -(-len(indices) // size))))
        frames = []
        while pending:
            batch = pending.pop(0)
            try:
                frames.append(self._attack_batch(attack, transform, batch))
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise InputError(f"one image of {self.claim.data.name} does not fit into the memory of {self.device}") from None
                pending[:0] = batch.split(-(-len(batch) // 2))
                continue
            advance(len(batch))
        return pl.concat(frames)

    def _attack_batch(self, attack: Attack, transform: Transform | None, indices: Tensor) -> pl.DataFrame:
        split = self.claim.data.test
        images = split.images(indices)
        images = self._place(transform(images) if transform else images)
        labels = split.labels[indices].to(self.device)
        right = (records.verified_logits(self.model, images).argmax(1) == labels).nonzero().squeeze(1)
        counted = Counted(self.model, len(right), self.device)
        adversarial = images.clone()
        if len(right):
            random = Randomness(self.seed, indices.to(self.device)[right], f"{name(attack)} {name(transform)}")
            found = attack(counted, images[right], labels[right], generator=random)
            if found.shape != images[right].shape:
                raise InputError(f"attack {name(attack)} returned images of shape {tuple(found.shape)}")
            adversarial[right] = found.to(images)
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
            "model": self.claim.model.sha256,
            "notes": self.claim.model.notes,
            "data": self.claim.data.sha256,
            "images": hashlib.sha256(indices.numpy().tobytes()).hexdigest(),
        }


def name(thing: Any) -> str:
    """The name of an attack or transform with what it was set to: "ScaleShift(alpha=0.9, beta=0.05)"."""
    return "none" if thing is None else repr(thing) if is_dataclass(thing) else getattr(thing, "__qualname__", str(thing))


def describe(thing: Any) -> dict[str, Any]:
    """An attack or a transform as JSON: its type and its hyper-parameters."""
    fields = asdict(thing) if is_dataclass(thing) and not isinstance(thing, type) else {}
    plain = {key: getattr(value, "__qualname__", value) for key, value in fields.items()}
    return {"type": f"{type(thing).__module__}.{type(thing).__qualname__}", **plain}
