"""How much processor time the strata of an audit save on each model."""

import tempfile
import warnings
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import scotoma
from harness import Claim, Options
from measuring import spending
from networks import Network, networks, quick
from page import Section
from scotoma.execution.sampling import FIRST
from scotoma.probes.robustness.probe import Robustness
from scotoma.utils.stats import Rate, interval

SMALLER = {"mnist": "linf:0.05", "fashion-mnist": "linf:0.01", "cifar-10": "linf:0.5/255"}
"""Sizes at which a network that is not robust loses some of its images and not all."""
FALLEN = 0.05
"""Robust accuracy on a card below which a network is not robust."""
GOAL = 1 / 3


@dataclass(frozen=True)
class Audit:
    """Robust accuracy on a whole test set of `size` images, and processor seconds in all."""

    robust: Rate
    size: int
    seconds: float

    @property
    def uniform_images(self) -> int:
        """Number of images of a uniform sample of this test set with an interval as narrow."""

        def is_narrow(n: int) -> bool:
            wide, left = interval(self.robust.value, n), (self.size - n) / (self.size - 1)
            return left**0.5 * (wide.high - wide.low) <= self.robust.high - self.robust.low

        return 1 + bisect_left(range(1, self.size), True, key=is_narrow)


def threat_of(card: dict[str, Any]) -> str:
    """Return the threat of a network of `zoo/`, smaller if it is not robust."""
    weak = card["recipe"] == "natural" or card["robust_accuracy"] < FALLEN
    return SMALLER[card["data"]] if weak else card["threat"]


def measured(
    each: Network, images: int, precisions: list[float]
) -> tuple[list[Audit], float, float]:
    """Return an audit for each precision, and seconds of the first and of each further image."""
    with tempfile.TemporaryDirectory() as folder:

        def audit(limit: int, probe: Robustness) -> tuple[dict, float]:
            with spending() as spent:
                report = scotoma.audit(
                    each.model, each.data, each.threat, probes=[probe], limit=limit, out=folder
                )
            return report["robustness"].numbers, spent.processor

        _, first = audit(FIRST, Robustness(sampling="uniform"))
        _, rest = audit(images, Robustness(sampling="uniform"))
        found, seconds = [], first + rest
        for precision in precisions:
            numbers, more = audit(images, Robustness(precision=precision))
            seconds += more
            name = "test_set_robust_accuracy"
            value, low, high = (numbers[name + end] for end in ("", "_low", "_high"))
            robust = Rate(value, low, high, numbers["test_set_attacked"])
            found.append(Audit(robust, numbers["test_set_images"], seconds))
    return found, first, rest / (images - FIRST)


def sampling(options: Options, models: str = "", precision: str = "0.02,0.01") -> Section:
    """How much processor time the strata of an audit save on each model.

    `robustness` attacks images drawn uniformly, then those that tell most until robust accuracy on
    the whole test set is known within each precision (the widest first), with the score of all test
    images counted. A uniform sample with an interval as narrow would take what the first images
    took, and for each further one what the images after the first work unit took on average.
    `models`, by commas, are names in `zoo/`, where networks that were trained naturally, or of
    which nothing stands at the size of their card, are attacked at a smaller one, or
    MODEL@DATA@THREAT; by default those of `zoo/` on `--data` (mnist,fashion-mnist): an hour.
    """
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=UserWarning)
    precisions = [float(each) for each in precision.split(",")]
    names = models or quick(options.data or "mnist,fashion-mnist")
    rows, shares = [], {each: list[float]() for each in precisions}
    for each in networks(names, options.data_root, threat_of):
        found, first, further = measured(each, options.images or 200, precisions)
        for asked, audit in zip(precisions, found, strict=True):
            alike = first + max(0, audit.uniform_images - FIRST) * further
            shares[asked].append(audit.seconds / alike)
            robust = f"{audit.robust.value:.1%} ({audit.robust.low:.1%} to {audit.robust.high:.1%})"
            drawn = f"{audit.robust.n:,}", f"{audit.uniform_images:,}"
            times = f"{audit.seconds:.0f} s", f"{alike:.0f} s", f"{shares[asked][-1]:.2f}"
            rows.append([each.name, str(each.threat), f"{asked:g}", robust, *drawn, *times])
            print(*rows[-1], sep="  ", flush=True)
    heads = ["network", "threat", "asked", "robust accuracy of the test set", "attacked"]
    heads += ["uniformly", "processor time", "uniformly", "share"]
    what = "processor time by uniform sampling's, median, at {:g}"
    medians = {asked: float(np.median(each)) for asked, each in shares.items()}
    claims = [Claim(what.format(asked), share, GOAL) for asked, share in medians.items()]
    count = options.images or 200
    return Section(f"`robustness` on {count} images and more as needed.", heads, rows, claims)
