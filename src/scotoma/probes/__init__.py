"""Probes: one question each about a claim of robustness. One file a question, one line here a name."""

from __future__ import annotations

from scotoma.utils.registry import Table

PROBES = Table(
    "probe",
    {
        "robustness": "probes.robustness.probe:Robustness",
        "blindspots": "probes.blindspots.probe:BlindSpots",
        "distance": "probes.distance.probe:Distance",
        "divergence": "probes.divergence.probe:Divergence",
        "norms": "probes.norms.probe:Norms",
        "inequality": "probes.inequality.probe:Inequality",
        "transfer": "probes.transfer.probe:Transfer",
        "masking": "probes.masking.probe:Masking",
    },
)
