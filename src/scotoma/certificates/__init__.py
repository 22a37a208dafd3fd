"""Certificates: lower bounds on robustness that no attack can undercut, and an estimate of one.

>>> import scotoma
>>> from torch import nn
>>> scotoma.certificates.is_smooth(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
False
"""

from __future__ import annotations

from scotoma.certificates.dual import certified
from scotoma.certificates.layers import read_network
from scotoma.certificates.synthesis import lower_bounds
from scotoma.certificates.wasserstein import curvature, is_smooth, transport

__all__ = ["certified", "curvature", "is_smooth", "lower_bounds", "read_network", "transport"]


def __dir__() -> list[str]:
    return __all__
