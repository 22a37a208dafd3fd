"""The audit that a request asks for."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scotoma.claims.file import as_toml
from scotoma.claims.request import Request
from scotoma.claims.taken import TAKEN_BY
from scotoma.claims.thresholds import of_probe
from scotoma.utils.errors import InputError
from scotoma.utils.registry import nearest

if TYPE_CHECKING:
    from scotoma.data.dataset import Dataset
    from scotoma.models.classifier import Classifier
    from scotoma.probes.base import Probe
    from scotoma.probes.forecast import Forecast
    from scotoma.results.report import Report
    from scotoma.utils.progress import Progress

RESOLVED = "claim.toml"
"""Name of the claim in the run folder, with every setting."""

UNSET = (None, (), [])
"""Values of options that are not set."""


def run(request: Request, progress: Progress | None = None, command: str | None = None) -> Report:
    """Audit, and keep the claim in the run folder.

    Args:
        request: what is asked for.
        progress, command: as in `scotoma.audit`.

    Raises:
        InputError: something cannot be used. Nothing has been written.
    """
    from scotoma.attacks import takes
    from scotoma.auditing import audit
    from scotoma.execution.ranks import ranks
    from scotoma.models.loading import load_model
    from scotoma.probes.base import Settings
    from scotoma.utils.files import write_whole

    load = partial(load_model, trust_pickle=request.trust_pickle)
    sources = [load(each) for each in request.sources]
    audited, data = _load_pair(request)
    attack = request.attack
    report = audit(
        audited,
        data,
        request.threat,
        out=request.out,
        probes=_probes(request, sources, load),
        attack=Settings(attack, tuple(sources)) if takes(attack, "sources") else attack,
        limit=request.limit,
        budget=request.budget,
        thorough=request.thorough,
        keep=request.keep,
        seed=request.seed,
        stated=request.stated,
        force=request.force,
        progress=progress,
        command=command,
    )
    if ranks().leads:
        write_whole(report.folder / RESOLVED, as_toml(request).encode())
    return report


def expected(request: Request) -> Forecast:
    """Return about how long the audit would take, without running it.

    Raises:
        InputError: model, data or a probe cannot be used.
    """
    from scotoma.auditing import make_claim
    from scotoma.execution.effort import WHOLE
    from scotoma.execution.run import Run
    from scotoma.execution.sampling import sample_size
    from scotoma.probes import PROBES
    from scotoma.probes.forecast import forecast

    probes = request.probes or tuple(PROBES)
    for name in probes:
        PROBES[name]
    claim = make_claim(*_load_pair(request), request.threat)
    with tempfile.TemporaryDirectory() as folder:
        limit = sample_size(request.limit, request.precision)
        run = Run(claim, Path(folder), limit=limit, seed=request.seed)
        return forecast(run, probes, WHOLE if request.thorough else None)


def _load_pair(request: Request) -> tuple[Classifier, Dataset]:
    """Return the model and its images."""
    from scotoma.models.loading import load_pair

    return load_pair(
        request.model,
        request.data,
        request.data_root,
        weights=request.weights,
        trust_pickle=request.trust_pickle,
        value_range=request.value_range,
        outputs=request.outputs,
        **request.images,
    )


def _probes(request: Request, sources: list[Any], load: Any) -> list[Probe]:
    """Return the probes with their options."""
    from scotoma.probes import PROBES
    from scotoma.probes.blindspots.map import BlindSpotMap
    from scotoma.transforms import TRANSFORMS

    extractor, reference = request.extractor, request.reference
    options: dict[str, Any] = {name: getattr(request, name) for name in TAKEN_BY} | {
        "extractor": extractor and load(extractor),
        "reference": reference and load(reference),
        "bounds": list(request.bounds),
        "sources": sources,
    }
    probes = [
        PROBES[name](
            **{
                key: value
                for key, value in options.items()
                if name in TAKEN_BY[key] and value not in UNSET
            },
            **of_probe(request.thresholds, name),
        )
        for name in request.probes or PROBES
    ]
    for family in request.survives:
        if family not in TRANSFORMS:
            hint = nearest(family, list(TRANSFORMS))
            raise InputError(f"survives: unknown transform {family!r}; {hint}")
    return [*probes, *([BlindSpotMap(request.survives)] if request.survives else [])]
