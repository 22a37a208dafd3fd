"""The sizes, one a norm, at which the norms probe tells the accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from scotoma.claim import Claim, Threat
from scotoma.utils.errors import InputError
from scotoma.utils.text import norm_name

MEASURED = ("l0", "l2", "linf")

MNIST = {"l0": 12, "l2": 1.5, "linf": 0.3}
"""Schott et al. 2019, section 6."""
MNIST_PIXELS = 28 * 28
KNOWN = {"mnist": MNIST, "fashion-mnist": MNIST, "cifar-10": {"l0": 24, "l2": 0.5, "linf": 8 / 255}}


def bounds(claim: Claim, chosen: Iterable[Threat] = ()) -> dict[str, Threat]:
    """The bound in each of `MEASURED`: the claim's own in its norm, elsewhere the last one chosen, else that of the data.

    On data that is not in `KNOWN` those of MNIST keep their size beside the image: L2 grows with the root of the number of values,
    L0 with that of pixels, and is at least 1; L-inf stays.
    """
    channels, height, width = claim.data.shape
    pixels = height * width
    scaled = {
        "l0": max(1, round(MNIST["l0"] * pixels / MNIST_PIXELS)),
        "l2": MNIST["l2"] * math.sqrt(channels * pixels / MNIST_PIXELS),
        "linf": MNIST["linf"],
    }
    sizes = KNOWN.get(claim.data.name, scaled)
    told = {each.norm: each for each in (*chosen, claim.threat)}
    return {norm: told.get(norm) or Threat(norm, sizes[norm]) for norm in MEASURED}


def read_bounds(given: Sequence[str | Threat], claimed: Threat) -> tuple[Threat, ...]:
    """The bounds in "l2:1.5", "l0:12".

    Raises `InputError` for what is none, a norm that is given twice or not measured, and that of the claim, whose bound is its
    own.
    """
    read: dict[str, Threat] = {}
    for each in given:
        try:
            bound = Threat.parse(each)
        except InputError as error:
            raise InputError(f"bounds={each}: {error}") from None
        if bound.norm not in MEASURED:
            raise InputError(
                f"bounds={bound}: {norm_name(bound.norm)} is not measured; give l0, l2 or linf"
            )
        if bound.norm == claimed.norm:
            raise InputError(
                f"bounds={bound}: the claim is one in {norm_name(bound.norm)}, and its own bound counts: threat={claimed}"
            )
        if bound.norm in read:
            raise InputError(
                f"bounds={read[bound.norm]},{bound}: {norm_name(bound.norm)} is given twice; omit one"
            )
        read[bound.norm] = bound
    return tuple(read.values())
