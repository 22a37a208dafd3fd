"""How much processor time the strata of an audit save on each model.

    python benchmarks/sampling.py                  # MNIST and Fashion-MNIST of zoo/: an hour
    python benchmarks/sampling.py --models mnist-wong,panel.py:trades_mnist@mnist@linf:0.3
    python benchmarks/sampling.py --images 100 --precision 0.04 --models cifar-robust

`robustness` attacks images drawn uniformly, then those that tell most until robust accuracy on the
whole test set is known within each precision, with the score of all test images counted. A uniform
sample with an interval as narrow would take what the first images took, and for each further one
what the images after the first work unit took on average. Networks that were trained naturally, or
of which nothing stands at the size of their card, are attacked at a smaller one.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import scotoma
from false_alarms import SLOW
from harness import ZOO, Claim, command, in_zoo
from page import table
from scotoma.claim import Threat
from scotoma.execution.sampling import FIRST
from scotoma.models.loading import load_model
from scotoma.probes.robustness.probe import Robustness
from scotoma.utils.stats import Rate, interval

SMALLER = {"mnist": "linf:0.05", "fashion-mnist": "linf:0.01", "cifar-10": "linf:0.5/255"}
"""Sizes at which a network that is not robust loses some of its images and not all."""
FALLEN = 0.05
"""Robust accuracy on a card below which a network is not robust."""
GOAL = 1 / 3


@dataclass(frozen=True)
class Subject:
    """A model, its data by name and its threat."""

    name: str
    model: str
    data: str
    threat: Threat


@dataclass(frozen=True)
class Audit:
    """Robust accuracy on a whole test set of `size` images, and processor seconds in all."""

    robust: Rate
    size: int
    seconds: float

    @property
    def half(self) -> float:
        return (self.robust.high - self.robust.low) / 2

    @property
    def uniform_images(self) -> int:
        """Number of images of a uniform sample of this test set with an interval as narrow."""
        few, many = 1, self.size
        while many - few > 1:
            n = (few + many) // 2
            wide = interval(self.robust.value, n)
            left = ((self.size - n) / (self.size - 1)) ** 0.5
            few, many = (few, n) if left * (wide.high - wide.low) / 2 <= self.half else (n, many)
        return many


def stored(data: str) -> Iterator[str]:
    """Yield the names of the networks of `zoo/` on these data sets, slow models omitted."""
    for path in sorted(ZOO.glob("*.safetensors")):
        card = load_model(str(path)).card or {}
        if card["data"] in data.split(",") and card["arch"] not in (*SLOW, "flow"):
            yield path.stem


def subject(spec: str) -> Subject:
    """Return a name of `zoo/` at the threat of its card or a smaller one, or MODEL@DATA@THREAT."""
    model, *rest = spec.split("@")
    if rest:
        data, threat = rest
        return Subject(model.rpartition(":")[2], model, data, Threat.parse(threat))
    card = load_model(in_zoo(model)).card or {}
    weak = card["recipe"] == "natural" or card["robust_accuracy"] < FALLEN
    threat = Threat.parse(SMALLER[card["data"]] if weak else card["threat"])
    return Subject(model, in_zoo(model), card["data"], threat)


def measured(
    each: Subject, images: int, precisions: list[float], root: Path | None
) -> tuple[list[Audit], float, float]:
    """Return an audit for each precision, and seconds of the first and of each further image."""
    classifier, data = load_model(each.model), scotoma.load_data(each.data, root)
    with tempfile.TemporaryDirectory() as folder:

        def audit(limit: int, **options: float | str) -> tuple[dict, float]:
            began = time.process_time()
            probe = Robustness(**options)  # pyright: ignore[reportArgumentType]
            report = scotoma.audit(
                classifier, data, each.threat, probes=[probe], limit=limit, out=folder
            )
            return report["robustness"].numbers, time.process_time() - began

        _, first = audit(FIRST, sampling="uniform")
        _, rest = audit(images, sampling="uniform")
        found, spent = [], first + rest
        for precision in precisions:
            numbers, more = audit(images, precision=precision)
            spent += more
            name = "test_set_robust_accuracy"
            value, low, high = (numbers[name + end] for end in ("", "_low", "_high"))
            robust = Rate(value, low, high, numbers["test_set_attacked"])
            found.append(Audit(robust, numbers["test_set_images"], spent))
    return found, first, rest / (images - FIRST)


def main(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", default="mnist,fashion-mnist", help="data sets of zoo/ to measure"
    )
    parser.add_argument("--models", help="names in zoo/, or MODEL@DATA@THREAT, by commas")
    parser.add_argument("--images", type=int, default=200, help="audited images (default: 200)")
    parser.add_argument("--precision", default="0.02,0.01", help="the widest first")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.filterwarnings("ignore", category=UserWarning)
    precisions = [float(each) for each in given.precision.split(",")]
    names = given.models.split(",") if given.models else stored(given.data)
    lines, shares = [], {precision: list[float]() for precision in precisions}
    for each in map(subject, names):
        found, first, further = measured(each, given.images, precisions, given.data_root)
        for precision, audit in zip(precisions, found, strict=True):
            alike = first + max(0, audit.uniform_images - FIRST) * further
            shares[precision].append(audit.seconds / alike)
            robust = f"{audit.robust.value:.1%} ({audit.robust.low:.1%} to {audit.robust.high:.1%})"
            drawn = f"{audit.robust.n:,}", f"{audit.uniform_images:,}"
            times = f"{audit.seconds:.0f} s", f"{alike:.0f} s"
            share = f"{shares[precision][-1]:.2f}"
            lines.append([each.name, str(each.threat), f"{precision:g}", robust])
            lines[-1] += [*drawn, *times, share]
            print(*lines[-1], sep="  ", flush=True)
    heads = ["network", "threat", "asked", "robust accuracy of the test set", "attacked"]
    heads += ["uniformly", "processor time", "uniformly", "share"]
    print(f"\n{table(heads, lines)}\n")
    for precision, each in shares.items():
        what = f"processor time by uniform sampling's, median, at {precision:g}"
        print(Claim(what, float(np.median(each)), GOAL))


if __name__ == "__main__":
    command(main, __doc__)
