"""A generator where none is given: a reference model of the same data, or one that is trained."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from scotoma.claim import Claim
from scotoma.execution.run import Run
from scotoma.models.classifier import Classifier
from scotoma.models.flow import SMALL
from scotoma.models.loading import load_model
from scotoma.reference import REFERENCES, in_zoo
from scotoma.threat import Threat
from scotoma.training.loop import Schedule, train
from scotoma.utils.cache import cached, kept, once
from scotoma.utils.random import own_numbers

GENERATIVE = ("abs", "flow")
"""Architectures that generate images."""
MOST_IMAGES = 10_000
STEPS, BATCH = 1260, 64
"""Half a minute on one core for small images. On the embedded digits the oracle then accepts 99.6%
of the images that are generated."""


def default_generator(claim: Claim, run: Run) -> Classifier | None:
    """Return a generative model of the claim's data, or None.

    It is a reference model from the zoo, or for a few small images one that is trained now and kept
    in the cache.
    """
    data = claim.data
    for name, reference in REFERENCES.items():
        if reference.arch in GENERATIVE and reference.data == data.name and (path := in_zoo(name)):
            return load_model(str(path))
    if data.train is None or max(data.shape[1:]) > SMALL or len(data.train) > MOST_IMAGES:
        return None
    schedule = Schedule(max(1, round(STEPS * BATCH / len(data.train))), BATCH, peak=2e-3)
    key = hashlib.sha256(json.dumps([data.sha256, asdict(schedule)]).encode()).hexdigest()[:16]
    path = kept(cached("generators", run.store.folder) / key / "flow.safetensors")
    batches = -(-len(data.train) // BATCH) * schedule.epochs

    def make() -> None:
        threat = Threat("linf", 0.1)
        bar = run.progress.bar(f"training a generator of {data.name}", batches)
        with own_numbers(), bar as advance:
            options = {"schedule": schedule, "half": True, "step": advance}
            train("generator", data, "flow", threat, path, **options)

    return load_model(str(once(path, make)))
