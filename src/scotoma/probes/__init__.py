"""Probes: one question each about a claim of robustness. One file a question, one line here a name."""

from __future__ import annotations

from scotoma.utils.registry import Table

PROBES = Table(
    "probe",
    {
        "robustness": "probes.robustness:Robustness",
        "blindspots": "probes.blindspots:BlindSpots",
        "distance": "probes.distance:Distance",
        "divergence": "probes.divergence:Divergence",
        "norms": "probes.norms:Norms",
        "inequality": "probes.inequality:Inequality",
        "transfer": "probes.transfer:Transfer",
        "masking": "probes.masking:Masking",
    },
)
