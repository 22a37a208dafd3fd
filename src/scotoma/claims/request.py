"""What an audit is asked for, from flags or from a claim file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scotoma.claim import Stated
from scotoma.claims.thresholds import Thresholds
from scotoma.threat import Threat


@dataclass(frozen=True)
class Request:
    """An audit as a user asks for it; each field is an option of `scotoma audit`.

    Args:
        model, weights, trust_pickle, value_range, outputs: as `load_model` reads them.
        data, data_root, train, size, resize, crop, interpolation, on_error: as in `load_data`.
        probes: names of probes; none means all.
        layer, extractor, sources, bounds, reference, generator, precision, sampling: options of
            single probes (`claims.running.TAKEN_BY`).
        attack, limit, seed, budget, thorough, keep, force, out: as in `scotoma.audit`.
        stated, thresholds: the numbers that are claimed, and the unusual thresholds of verdicts.
        survives: transforms that the claim says do no harm; the map of blind spots searches them.

    >>> Request("model.safetensors", "mnist", Threat("linf", 0.3)).out
    PosixPath('runs/audit')
    """

    model: str
    data: str
    threat: Threat
    weights: Path | None = None
    trust_pickle: bool = False
    value_range: str | None = None
    outputs: str | None = None
    data_root: Path | None = None
    train: str | None = None
    size: str | None = None
    resize: int | None = None
    crop: int | None = None
    interpolation: str | None = None
    on_error: str = "refuse"
    probes: tuple[str, ...] = ()
    attack: str = "strong"
    layer: str | None = None
    extractor: str | None = None
    sources: tuple[str, ...] = ()
    bounds: tuple[str, ...] = ()
    reference: str | None = None
    generator: str | None = None
    precision: float | None = None
    sampling: str | None = None
    limit: int | None = None
    seed: int = 0
    budget: str | None = None
    thorough: bool = False
    keep: str = "examples"
    force: bool = False
    out: Path = Path("runs/audit")
    stated: Stated = Stated()  # noqa: RUF009
    thresholds: Thresholds = ()
    survives: tuple[str, ...] = ()

    @property
    def images(self) -> dict[str, Any]:
        """How `load_data` reads the images."""
        return {name: getattr(self, name) for name in IMAGES}


IMAGES = ("train", "size", "resize", "crop", "interpolation", "on_error")
"""Options on how images are read, which are keys of `[data]`."""
