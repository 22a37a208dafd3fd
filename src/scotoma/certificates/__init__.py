"""Certificates: lower bounds on robustness that no attack can undercut, and an estimate of one.

>>> import scotoma
>>> from torch import nn
>>> scotoma.certificates.is_smooth(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
False
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scotoma.certificates.dual import certified as certified
    from scotoma.certificates.layers import read_network as read_network
    from scotoma.certificates.synthesis import lower_bounds as lower_bounds
    from scotoma.certificates.wasserstein import curvature as curvature
    from scotoma.certificates.wasserstein import is_smooth as is_smooth
    from scotoma.certificates.wasserstein import transport as transport

_HOMES = {
    "certified": "dual",
    "curvature": "wasserstein",
    "is_smooth": "wasserstein",
    "lower_bounds": "synthesis",
    "read_network": "layers",
    "transport": "wasserstein",
}
"""Modules of the public functions."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'scotoma.certificates' has no attribute {name!r}")
    return getattr(importlib.import_module(f"scotoma.certificates.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
