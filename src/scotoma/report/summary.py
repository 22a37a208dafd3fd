"""A summary of the records of one attack."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from scotoma.execution.records import correct, is_correct, successes
from scotoma.threat import Threat
from scotoma.utils.stats import rate
from scotoma.utils.text import norm_name


def summarise(records: pl.DataFrame, threat: Threat, sources: bool = False) -> Iterator[str]:
    """Yield lines with accuracy, success at eps, median distance and cost of an attack.

    `sources` says that the attack makes examples on other models, whose passes nobody counts.
    """
    clean = rate(is_correct(records))
    median = float(np.quantile(records[threat.norm].to_numpy(), 0.5, method="lower"))
    yield f"clean accuracy: {clean}"
    yield f"attack success at {threat}: {rate(successes(records, threat.eps, threat.norm))}"
    yield (
        f"median smallest {norm_name(threat.norm)} perturbation: {median:.4g} "
        "(clean errors count as 0, failures as infinite)"
    )
    attacked = correct(records)
    forwards, backwards = (attacked[each].mean() or 0 for each in ("forwards", "backwards"))
    apart = " on the attacked model; those on the sources are not counted" if sources else ""
    yield f"passes an attacked image: {forwards:.0f} forward, {backwards:.0f} backward{apart}"
