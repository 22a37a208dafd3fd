"""How often the look of the audit attack accuses honest models, and what it costs."""

import math
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch

import scotoma
from harness import Claim, Options, correct, first
from honest import HONEST
from measuring import spending
from networks import Network, networks, quick
from page import Section, table
from scotoma.attacks.adaptive.look import IMAGES
from scotoma.attacks.adaptive.plan import make_plan
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.strong import Strong
from scotoma.data import load_data
from scotoma.models.loading import load_model
from scotoma.threat import Threat
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
FIELDS = ("random", "batch", "zero", "steps", "unfaithful", "hidden")


@dataclass(frozen=True)
class Row:
    """What a look saw.

    Args:
        network: at which it looked.
        accused: whether it named a mechanism.
        share: its passes in those of `strong` on `AUDITED` images, NaN if not measured.
        failed: the checks of the masking probe that failed.
        cells: of the table.
    """

    network: Network
    accused: bool
    share: float
    failed: list[str]
    cells: list[str]


def trained(only: str, seed: int, root: Path | None) -> Iterator[Network]:
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
        yield Network(name, load_model(model), data, Threat.parse(spec.threat))


def passes(model: Counted) -> float:
    """Return all passes of a model."""
    return float((model.forwards + model.backwards).sum())


def looked(network: Network, costs: bool, masking: bool) -> Row:
    """Look at a model; measure what the attack and the probe take of it if asked."""
    model, pair = network.model.checked(network.data).module, first(network.data, DRAWN)
    images, labels = correct(model, *pair)
    few, share, failed = images[:IMAGES], math.nan, list[str]()
    counted = Counted(model, len(few), few.device)
    random = Randomness.default(few).fork(0)
    with spending() as spent:
        plan = make_plan(counted, few, labels[:IMAGES], network.threat, random)
    if costs:
        other = Counted(model, MEASURED, few.device)
        Strong(network.threat, look=False)(other, images[:MEASURED], labels[:MEASURED])
        share = passes(counted) / (AUDITED * passes(other) / len(images[:MEASURED]))
    if masking:
        report = scotoma.audit(model, pair, network.threat, probes=["masking"], limit=60)
        checks = report["masking"].tables["checks"]
        failed = [str(check["check"]) for check in checks if not check["passed"]]
    shares = {field: getattr(plan.look, field) for field in FIELDS} if plan.look else {}
    seen = [f"{field} {value:.0%}" for field, value in shares.items() if value]
    seen += [f"[{gate}]" for gate in (plan.look.gates if plan.look else ())]
    cells = [network.name, str(network.threat), str(len(few)), "; ".join(plan.mechanisms)]
    cells += [", ".join(seen), f"{passes(counted) / len(few):.0f}"]
    cells += [f"{share:.1%}" if costs else ""]
    cells += ["; ".join(failed) or "passed"] if masking else [""]
    print(f"{spent.seconds:5.1f} s  {'  '.join(cells)}", flush=True)
    return Row(network, bool(plan.mechanisms) or not plan.clean, share, failed, cells)


def false_alarms(
    options: Options,
    only: str = "",
    seed: int = 0,
    zoo: bool = False,
    models: str = "",
    costs: bool = True,
    masking: bool = False,
) -> Section:
    """Honest models that the look of the audit attack accuses, and the passes that it takes.

    Each model of `honest.py` with the text `only` in its name is trained, and `make_plan` looks at
    it on up to 24 images that it classifies correctly; with `zoo` also at the networks of `zoo/`,
    and at `models`, by commas: MODEL@DATA@THREAT, with @apart at the end if it is not honest. A
    model is accused if the plan names a mechanism. The rate is over models, with its 95% Wilson
    interval. Models that hide gradients by construction, because they round their input, or that
    were trained on single steps are listed apart. "Passes" are forward and backward passes of the
    look, an image; "of strong" is their share of those of `strong` on 100 images, which are
    measured on 20 unless `costs` is False. `masking` runs the masking probe of an audit too.
    """
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=UserWarning)
    root = options.data_root
    others = networks(",".join([quick() if zoo else "", models]), root)
    rows = [looked(each, costs, masking) for each in chain(trained(only, seed, root), others)]
    honest = [row for row in rows if not misleading(row.network)]
    apart = [row for row in rows if misleading(row.network)]
    heads = ["model", "threat", "n", "named", "seen", "passes", "of strong", "masking"]
    if apart:
        print(f"\nApart, accused: {accused(apart)}\n\n{table(heads, [r.cells for r in apart])}")
    alarms = accused(honest)
    intro = f"Honest models accused: {alarms}."
    if masking:
        failing = rate(np.array([bool(row.failed) for row in honest], dtype=bool))
        intro += f" Honest models that fail a check of masking: {failing}."
    claims = [Claim("share of honest models that are accused", alarms.value, 0.02)]
    if shares := [row.share for row in honest if not math.isnan(row.share)]:
        most = "largest share of the passes of strong on 100 images"
        claims.append(Claim(most, max(shares), 0.05))
    return Section(intro, heads, [row.cells for row in honest], claims)


def misleading(network: Network) -> bool:
    """Return whether the gradients of a network may well mislead."""
    card = network.model.card or {}
    binary = str(card.get("arch")).startswith("binary")
    return network.apart or binary or card.get("recipe") in SINGLE_STEPS


def accused(rows: list[Row]) -> Rate:
    """Return the rate of accused models."""
    return rate(np.array([row.accused for row in rows], dtype=bool))
