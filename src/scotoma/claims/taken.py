"""Options of single probes, which are refused where none of these probes runs."""

from __future__ import annotations

from collections.abc import Mapping

from scotoma.claims.request import Request
from scotoma.claims.thresholds import check_thresholds
from scotoma.utils.errors import InputError

TAKEN_BY = {
    "precision": ("robustness",),
    "sampling": ("robustness",),
    "layer": ("distance", "divergence"),
    "extractor": ("distance",),
    "bounds": ("norms",),
    "reference": ("inequality",),
    "generator": ("generated",),
    "sources": ("transfer", "masking"),
}
"""Options of an audit that only some probes take."""


def check_taken(request: Request, option_names: Mapping[str, str]) -> None:
    """Raise `InputError` if a threshold or a set option belongs to probes that do not run.

    Args:
        request: what is asked for.
        option_names: the fields of the request that the user set, with their names in messages:
            "layer=" for an option, "audit.layer " for a key of a claim file.

    >>> from scotoma.threat import Threat
    >>> request = Request("m", "digits", Threat("linf", 0.1), probes=("norms",), layer="fc2")
    >>> check_taken(request, {"layer": "layer="})
    Traceback (most recent call last):
        ...
    scotoma.utils.errors.InputError: layer=fc2 is an option of distance and divergence, which do ...
    """
    from scotoma.attacks import takes

    check_thresholds(request.thresholds, request.probes)
    for name, label in option_names.items():
        probes = TAKEN_BY.get(name, ())
        if not probes or not request.probes or {*probes} & {*request.probes}:
            continue
        if name == "sources" and takes(request.attack, "sources"):
            continue
        value, be = getattr(request, name), "does" if len(probes) == 1 else "do"
        raise InputError(
            f"{label}{','.join(value) if isinstance(value, tuple) else value} is an option of "
            f"{' and '.join(probes)}, which {be} not run; probes are {', '.join(request.probes)}"
        )
