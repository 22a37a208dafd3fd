"""How often the look of the audit attack accuses honest models, and what it costs.

    python benchmarks/false_alarms.py                    # models that are trained here: minutes
    python benchmarks/false_alarms.py --only dense --seed 1
    python benchmarks/false_alarms.py --zoo              # and those of zoo/
    python benchmarks/false_alarms.py --only nothing --models panel.py:trades,mnist,linf:0.3
    python benchmarks/false_alarms.py --only conv --masking    # and the masking probe of an audit

Each model of `honest.py` is trained, and `make_plan` looks at it on up to 24 images that it
classifies correctly. It is accused if the plan names a mechanism. The rate is over models, with its
95% Wilson interval. Models that hide gradients by construction, because they round their input, or
that were trained on single steps are listed apart. "Passes" are forward and backward passes of the
look, an image; "of strong" is their share of those of `strong` on 100 images, which are measured on
20. Models of MNIST are omitted if its files are missing.
"""

import argparse
import math
import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import nn

import scotoma
from harness import ZOO, Claim, Options, command, correct, first
from honest import HONEST
from measuring import clock
from page import table
from scotoma.attacks.adaptive.look import IMAGES
from scotoma.attacks.adaptive.plan import Plan, make_plan
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.strong import Strong
from scotoma.claim import Threat
from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.models.loading import load_model
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness
from scotoma.utils.stats import Rate, rate

AUDITED = 100
"""Images of the audit to whose passes those of the look are compared."""
MEASURED = 20
"""Images on which the passes of `strong` are measured."""
DRAWN = 200
"""Test images among which the correctly classified are looked for."""
SINGLE_STEPS = ("fgsm", "step-ll", "rand-fgsm", "fast", "ensemble")
"""Recipes after which gradients may mislead."""
SLOW = ("abs", "binary-abs")
"""Architectures on which a look takes an hour."""
FIELDS = ("random", "batch", "zero", "steps", "unfaithful", "hidden")


@dataclass(frozen=True)
class Subject:
    """A model to look at; `apart` if its gradient may well mislead."""

    name: str
    model: nn.Module
    data: Dataset
    threat: Threat
    apart: bool = False


@dataclass(frozen=True)
class Row:
    """What a look saw.

    Args:
        subject: the model.
        n: number of images.
        plan: what the look led to.
        passes: of the look, an image.
        share: of all its passes in those of `strong` on `AUDITED` images, NaN if not measured.
        seconds: of the look.
        failed: the checks of the masking probe that failed, None if it did not run.
    """

    subject: Subject
    n: int
    plan: Plan
    passes: float
    share: float
    seconds: float
    failed: tuple[str, ...] | None = None

    @property
    def accused(self) -> bool:
        return bool(self.plan.mechanisms) or not self.plan.clean

    @property
    def cells(self) -> list[str]:
        look = self.plan.look
        shares = {field: getattr(look, field) for field in FIELDS} if look else {}
        seen = [f"{field} {share:.0%}" for field, share in shares.items() if share]
        seen += [f"[{gate}]" for gate in (look.gates if look else ())]
        share = "" if math.isnan(self.share) else f"{self.share:.1%}"
        checks = [] if self.failed is None else ["; ".join(self.failed) or "passed"]
        return [
            self.subject.name,
            str(self.subject.threat),
            str(self.n),
            "; ".join(self.plan.mechanisms),
            ", ".join(seen),
            f"{self.passes:.0f}",
            share,
            *checks,
        ]


def trained(only: str, seed: int, root: Path | None) -> Iterator[Subject]:
    """Train and yield the models whose names have the text `only` in them."""
    for name, spec in HONEST.items():
        if only not in name:
            continue
        try:
            data = load_data(spec.data, root)
        except InputError as error:
            print(f"{name} omitted: {error}")
            continue
        model = spec.train(data, zlib.crc32(f"{seed} {name}".encode()))
        yield Subject(name, model, data, Threat.parse(spec.threat))


def stored(root: Path | None) -> Iterator[Subject]:
    """Yield the models of `zoo/` whose data is there, at the threat of their training."""
    for path in sorted(ZOO.glob("*.safetensors")):
        classifier = load_model(str(path))
        card = classifier.card or {}
        if card["arch"] in SLOW:
            print(f"{path.stem} omitted: it is slow")
            continue
        try:
            data = load_data(card["data"], root)
        except InputError as error:
            print(f"{path.stem} omitted: {error}")
            continue
        apart = card["recipe"] in SINGLE_STEPS or card["arch"].startswith("binary")
        module = classifier.checked(data).module
        yield Subject(path.stem, module, data, Threat.parse(card["threat"]), apart)


def named(specs: Iterable[str], root: Path | None) -> Iterator[Subject]:
    """Yield models given as "MODEL,DATA,THREAT", or with ",apart" at the end."""
    for spec in specs:
        model, data, threat, *rest = spec.split(",")
        loaded = load_data(data, root)
        module = load_model(model).checked(loaded).module
        yield Subject(model.rpartition(":")[2], module, loaded, Threat.parse(threat), bool(rest))


def passes(model: Counted) -> float:
    """Return all passes of a model."""
    return float((model.forwards + model.backwards).sum())


def looked(subject: Subject, costs: bool, masking: bool) -> Row:
    """Look at a model; measure what the attack and the probe take of it if asked."""
    pair = first(subject.data, DRAWN)
    images, labels = correct(subject.model, *pair)
    few, start = images[:IMAGES], clock()
    counted = Counted(subject.model, len(few), few.device)
    plan = make_plan(counted, few, labels[:IMAGES], subject.threat, Randomness.default(few).fork(0))
    seconds, share = clock() - start, math.nan
    if costs:
        other = Counted(subject.model, MEASURED, few.device)
        Strong(subject.threat, look=False)(other, images[:MEASURED], labels[:MEASURED])
        share = passes(counted) / (AUDITED * passes(other) / len(images[:MEASURED]))
    failed = None
    if masking:
        report = scotoma.audit(subject.model, pair, subject.threat, probes=["masking"], limit=60)
        checks = report["masking"].tables["checks"]
        failed = tuple(str(check["check"]) for check in checks if not check["passed"])
    return Row(subject, len(few), plan, passes(counted) / len(few), share, seconds, failed)


def measured(subjects: Iterable[Subject], costs: bool = True, masking: bool = False) -> list[Row]:
    """Look at all models, and print a line for each."""
    warnings.filterwarnings("ignore", category=UserWarning)
    rows = []
    for subject in subjects:
        rows.append(row := looked(subject, costs, masking))
        print(f"{row.seconds:5.1f} s  {'  '.join(row.cells)}", flush=True)
    return rows


def alarms(rows: list[Row]) -> Rate:
    """Return the rate of accused models."""
    return rate(np.array([row.accused for row in rows], dtype=bool))


def false_alarms(
    options: Options, only: str = "", seed: int = 0, zoo: bool = True
) -> Iterator[Claim]:
    """Honest models that the look of the audit attack accuses, and the passes that it takes."""
    torch.set_num_threads(options.threads)
    root = options.data_root
    subjects = chain(trained(only, seed, root), stored(root) if zoo else ())
    rows = [row for row in measured(subjects) if not row.subject.apart]
    accused = alarms(rows)
    print(f"  honest models accused: {accused}")
    yield Claim("share of honest models that are accused", accused.value, 0.02)
    shares = [row.share for row in rows if not math.isnan(row.share)]
    yield Claim("largest share of the passes of strong on 100 images", max(shares), 0.05)


def main(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default="", help="part of the names of the models to train")
    parser.add_argument("--seed", type=int, default=0, help="seed of the trainings (default: 0)")
    parser.add_argument("--zoo", action="store_true", help="look at the models of zoo/ too")
    parser.add_argument("--models", nargs="*", default=(), metavar="MODEL,DATA,THREAT[,apart]")
    parser.add_argument("--no-costs", action="store_true", help="do not measure strong's passes")
    parser.add_argument("--masking", action="store_true", help="run the masking probe too")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    root = given.data_root
    subjects = chain(
        trained(given.only, given.seed, root),
        stored(root) if given.zoo else (),
        named(given.models, root),
    )
    rows = measured(subjects, not given.no_costs, given.masking)
    heads = ["model", "threat", "n", "named", "seen", "passes", "of strong"]
    heads += ["masking"] if given.masking else []
    honest = [row for row in rows if not row.subject.apart]
    apart = [row for row in rows if row.subject.apart]
    print(f"\n{table(heads, [row.cells for row in honest])}\n\nHonest models: {alarms(honest)}")
    if given.masking:
        failing = rate(np.array([bool(row.failed) for row in honest], dtype=bool))
        print(f"Honest models that fail a check of masking: {failing}")
    if apart:
        print(f"\nApart:\n\n{table(heads, [row.cells for row in apart])}\n\n{alarms(apart)}")


if __name__ == "__main__":
    command(main, __doc__)
