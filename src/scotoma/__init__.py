"""Scotoma finds the blind spots of an image classifier that is claimed to be robust.

import scotoma

report = scotoma.audit(model, data="mnist", threat="linf:0.3")
report["blindspots"].headline
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scotoma.auditing import Report as Report
    from scotoma.auditing import audit as audit
    from scotoma.claim import Claim as Claim
    from scotoma.claim import Threat as Threat
    from scotoma.data import load_data as load_data
    from scotoma.errors import InputError as InputError
    from scotoma.models.loading import load_model as load_model

__version__ = "0.1.0"

_HOMES = {
    "audit": "auditing",
    "Report": "auditing",
    "Claim": "claim",
    "Threat": "claim",
    "load_data": "data",
    "InputError": "errors",
    "load_model": "models.loading",
}

__all__ = ["Claim", "InputError", "Report", "Threat", "audit", "load_data", "load_model"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: it is imported when something that needs it is first asked for
    if name not in _HOMES:
        raise AttributeError(f"module 'scotoma' has no attribute {name!r}")
    return getattr(importlib.import_module(f"scotoma.{_HOMES[name]}"), name)
