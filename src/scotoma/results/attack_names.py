"""Short names of the attacks in records, for people."""

from __future__ import annotations

import re

from scotoma.attacks import ATTACKS

WRAPPERS = {"Estimated": "estimated gradients", "BPDA": "bpda"}
"""Attacks that run another attack with other gradients."""
SHORT = {entry.partition(":")[2]: name for name, entry in ATTACKS.entries.items()}


def short_name(record: str) -> str:
    """Return the name of an attack without its settings.

    Args:
        record: name of the attack in records, with all settings.

    >>> short_name("Strong(threat=Threat(norm='linf', eps=0.1), until=0.0, look=False)")
    'strong'
    >>> short_name("Estimated(attack=FGSM(threat=Threat(norm='linf', eps=0.1)), step=0.1)")
    'fgsm (estimated gradients)'
    >>> short_name("FGSM(threat=Threat(norm='linf', eps=0.1)) on digits-natural ddd53eb7")
    'fgsm on digits-natural'
    """
    call, _, source = record.partition(") on ")
    around = []
    while match := re.match(r"(\w+)\(attack=(?=\w+\()", call):
        around.append(WRAPPERS.get(match[1], SHORT.get(match[1], match[1])))
        call = call[match.end() :]
    kind = call.partition("(")[0]
    if kind == "Adapted":
        kind, around = "strong", [*around, "adapted"]
    name = SHORT.get(kind, kind)
    name += f" ({', '.join(around)})" if around else ""
    return f"{name} on {re.sub(r' [0-9a-f]{8}$', '', source)}" if source else name
