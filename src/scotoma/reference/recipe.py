"""How a reference model is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scotoma.data.dataset import Dataset, Repeated, Sample, Split
from scotoma.models.classifier import Classifier
from scotoma.threat import Threat
from scotoma.training import RECIPES
from scotoma.training.loop import Schedule, train


@dataclass(frozen=True)
class Reference:
    """How a model is trained: arguments of `training.loop.train`. Weights are stored as float16.

    `sources` names reference models of the same data for the recipe's option `sources`: models that
    it takes adversarial images from, or its teacher; if it `begins` there, the first is the model
    whose weights it starts from. `images` are the training images that it sees, drawn by the seed;
    each returns until an epoch has as many steps as one over the whole training split.
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
        others = tuple(sources)[self.begins :]
        train(
            self.recipe,
            data,
            self.arch,
            threat,
            out,
            schedule=schedule,
            seed=self.seed,
            half=True,
            options=self.options | ({"sources": others} if others else {}),
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
