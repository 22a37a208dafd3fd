"""Probes: a question each about a claim of robustness. One package a question, one line here.

>>> import scotoma
>>> scotoma.probes.PROBES["norms"]().question
'Does the claim hold only in the norm that the model was trained for?'
>>> scotoma.probes.Distance(layer="fc2").layer
'fc2'
"""

from __future__ import annotations

from typing import Any

from scotoma.utils.registry import Table

PROBES = Table(
    "probe",
    {
        "robustness": "probes.robustness.probe:Robustness",
        "blindspots": "probes.blindspots.probe:BlindSpots",
        "generated": "probes.generated.probe:Generated",
        "distance": "probes.distance.probe:Distance",
        "divergence": "probes.divergence.probe:Divergence",
        "norms": "probes.norms.probe:Norms",
        "inequality": "probes.inequality.probe:Inequality",
        "transfer": "probes.transfer.probe:Transfer",
        "masking": "probes.masking.probe:Masking",
    },
)


def __getattr__(name: str) -> Any:
    # the class of a probe is imported at its first use: `scotoma.probes.Distance`
    return PROBES.attribute(name)


def __dir__() -> list[str]:
    return sorted(["PROBES", *PROBES.attributes])
