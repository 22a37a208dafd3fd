"""The digits model that benchmarks share."""

from __future__ import annotations

import tempfile
from pathlib import Path

from scotoma.claim import Threat
from scotoma.data import load_data
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.training.loop import Schedule, train

THREAT = Threat("linf", 0.2)


def digits_model() -> Classifier:
    """A `small-cnn` after 40 epochs of PGD training at `THREAT`, kept in the temporary folder."""
    file = Path(tempfile.gettempdir()) / "scotoma-benchmarks" / "digits-pgd-0.2.safetensors"
    if not file.exists():
        print(f"training the digits model into {file}")
        train("pgd", load_data("digits"), "small-cnn", THREAT, file, schedule=Schedule(epochs=40))
    return load_model(str(file))
