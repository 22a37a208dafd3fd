"""Scotoma finds the blind spots of an image classifier that is claimed to be robust.

import scotoma

report = scotoma.audit(model, data="mnist", threat="linf:0.3")
report["blindspots"].headline
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from scotoma._version import __version__ as __version__
from scotoma.utils import threads as _threads

if TYPE_CHECKING:
    from scotoma import attacks as attacks
    from scotoma import attribution as attribution
    from scotoma import certificates as certificates
    from scotoma import data as data
    from scotoma import metrics as metrics
    from scotoma import models as models
    from scotoma import probes as probes
    from scotoma import training as training
    from scotoma import transforms as transforms
    from scotoma.auditing import audit as audit
    from scotoma.claim import Claim as Claim
    from scotoma.claim import Stated as Stated
    from scotoma.data import load_data as load_data
    from scotoma.models.loading import load_model as load_model
    from scotoma.report.comparing import compare as compare
    from scotoma.results.report import Report as Report
    from scotoma.threat import Threat as Threat
    from scotoma.utils.errors import InputError as InputError

_threads.sleep_while_waiting()  # OpenMP reads the policy when torch is loaded

_HOMES = {
    "audit": "auditing",
    "compare": "report.comparing",
    "Report": "results.report",
    "Claim": "claim",
    "Stated": "claim",
    "Threat": "claim",
    "load_data": "data",
    "InputError": "utils.errors",
    "load_model": "models.loading",
}
"""Where the names are that are no package of their own."""

__all__ = [
    "Claim",
    "InputError",
    "Report",
    "Stated",
    "Threat",
    "attacks",
    "attribution",
    "audit",
    "certificates",
    "compare",
    "data",
    "load_data",
    "load_model",
    "metrics",
    "models",
    "probes",
    "training",
    "transforms",
]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: it is imported when something that needs it is first asked for
    if name not in __all__:
        raise AttributeError(f"module 'scotoma' has no attribute {name!r}")
    if name not in _HOMES:
        return importlib.import_module(f"scotoma.{name}")
    return getattr(importlib.import_module(f"scotoma.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
