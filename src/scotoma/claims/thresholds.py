"""Thresholds of verdicts, as a claim sets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scotoma.probes import PROBES
from scotoma.utils.errors import InputError
from scotoma.utils.registry import nearest

Thresholds = tuple[tuple[str, str, float], ...]
"""Probe, name and value of each threshold that a claim sets."""


def read_thresholds(content: Any) -> Thresholds:
    """Read the tables `[thresholds.PROBE]` of a claim file.

    Raises:
        InputError: no such probe or threshold, or no share.

    >>> read_thresholds({"robustness": {"broken": 0.4}})
    (('robustness', 'broken', 0.4),)
    """
    thresholds = []
    tables = content.values() if isinstance(content, Mapping) else [content]
    if not all(isinstance(values, Mapping) for values in tables):
        raise InputError("thresholds: write [thresholds.PROBE] above the thresholds of a probe")
    for probe, values in content.items():
        names = list(PROBES[probe].thresholds)
        for name, value in values.items():
            if name not in names:
                hint = nearest(name, names) if names else "this probe has none"
                raise InputError(f"unknown threshold {name!r} of probe {probe}; {hint}")
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
                raise InputError(
                    f"threshold {probe}.{name} is {value!r}; want a share between 0 and 1"
                )
            thresholds.append((probe, name, float(value)))
    return tuple(sorted(thresholds))


def check_thresholds(thresholds: Thresholds, probes: Sequence[str]) -> None:
    """Raise `InputError` if a threshold is of a probe that does not run; no names mean all run.

    >>> check_thresholds((("masking", "tolerated", 0.1),), ["robustness"])
    Traceback (most recent call last):
        ...
    scotoma.utils.errors.InputError: thresholds.masking sets tolerated, but masking does not ...
    """
    for probe, name, _ in thresholds:
        if probes and probe not in probes:
            raise InputError(
                f"thresholds.{probe} sets {name}, but {probe} does not run; probes are "
                f"{', '.join(probes)}"
            )


def of_probe(thresholds: Thresholds, probe: str) -> dict[str, float]:
    """Return the thresholds of a probe by name.

    >>> of_probe((("robustness", "broken", 0.4),), "robustness")
    {'broken': 0.4}
    """
    return {name: value for other, name, value in thresholds if other == probe}
