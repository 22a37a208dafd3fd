"""Sizes, one a norm, at which the norms probe reports the accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from scotoma.claim import Claim
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.text import norm_name

MEASURED = ("l0", "l2", "linf")

MNIST = {"l0": 12, "l2": 1.5, "linf": 0.3}
"""Schott et al. 2019, section 6."""
MNIST_PIXELS = 28 * 28
KNOWN = {"mnist": MNIST, "fashion-mnist": MNIST, "cifar-10": {"l0": 24, "l2": 0.5, "linf": 8 / 255}}


def bounds(claim: Claim, options: Iterable[Threat] = ()) -> dict[str, Threat]:
    """Return the bound in each of `MEASURED`: the claim's own, the last one chosen, or a default.

    The defaults are `KNOWN` for known data and those of MNIST scaled to the image otherwise: L2
    grows with the root of the number of values, L0 with the number of pixels (at least 1).
    """
    channels, height, width = claim.data.shape
    pixels = height * width
    scaled = {
        "l0": max(1, round(MNIST["l0"] * pixels / MNIST_PIXELS)),
        "l2": MNIST["l2"] * math.sqrt(channels * pixels / MNIST_PIXELS),
        "linf": MNIST["linf"],
    }
    sizes = KNOWN.get(claim.data.name, scaled)
    sizes_by_norm = {each.norm: each for each in (*options, claim.threat)}
    return {norm: sizes_by_norm.get(norm) or Threat(norm, sizes[norm]) for norm in MEASURED}


def read_bounds(options: Sequence[str | Threat], claimed: Threat) -> tuple[Threat, ...]:
    """Read bounds such as "l2:1.5" and "l0:12".

    Raises:
        InputError: not a bound, a norm that is given twice or not measured, or that of the claim.
    """
    by_norm: dict[str, Threat] = {}
    for each in options:
        try:
            bound = Threat.parse(each)
        except InputError as error:
            raise InputError(f"bounds={each}: {error}") from None
        norm = norm_name(bound.norm)
        if bound.norm not in MEASURED:
            raise InputError(f"bounds={bound}: {norm} is not measured; give l0, l2 or linf")
        if bound.norm == claimed.norm:
            why = f"the claim is one in {norm}, and its own bound counts: threat={claimed}"
            raise InputError(f"bounds={bound}: {why}")
        if bound.norm in by_norm:
            both = f"{by_norm[bound.norm]},{bound}"
            raise InputError(f"bounds={both}: {norm} is given twice; omit one")
        by_norm[bound.norm] = bound
    return tuple(by_norm.values())
