"""Do masked gradients mislead the attack?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial, reduce
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from scotoma.attacks.adaptive.adapted import Adapted
from scotoma.attacks.adaptive.plan import Plan
from scotoma.attacks.adaptive.views import View
from scotoma.attacks.core.losses import cross_entropy, margin
from scotoma.attacks.core.oracle import Oracle
from scotoma.attacks.iterative import IFGSM
from scotoma.attacks.pgd import PGD
from scotoma.attacks.single_step import FGSM, RandFGSM
from scotoma.attacks.square import Square
from scotoma.claim import Claim
from scotoma.execution import records as rec
from scotoma.execution.effort import Least
from scotoma.execution.run import Attack, Run
from scotoma.metrics.health import gradient_health
from scotoma.metrics.linearity import Linearity, loss_linearity
from scotoma.metrics.subspace import adversarial_directions, orders_within
from scotoma.metrics.surface import CLOSE, loss_surface
from scotoma.models.black_box import is_black_box
from scotoma.models.loading import ModelLike
from scotoma.probes.base import Conclusion, Probe, Settings, load_others, prepared
from scotoma.probes.masking.checks import (
    FLAGS,
    IN_PLANES,
    LINES,
    OVERSHOOT,
    TOLERATED,
    Evidence,
)
from scotoma.probes.masking.report import finding, rule
from scotoma.probes.robustness.verdict import NOTHING_TO_ATTACK
from scotoma.probes.transfer.probe import crafting
from scotoma.probes.transfer.sources import Source, source_facts, sources
from scotoma.results.finding import Finding
from scotoma.threat import Threat
from scotoma.utils.random import Randomness

SIZES = (0.5, 1.0, 2.0)
"""Sizes of the balls in which success must not fall, in units of eps."""
STEPS = (1, 5, 20)
RESTARTS = 5
LINEARITY = {"steps": 10, "restarts": 1}
TRANSFERRED = ("fgsm", "mim-margin")
"""Attacks on other models, by their names in the transfer probe: one step, and the iterated attack
whose examples transfer best."""
QUERIES = 100
"""Queries of random search: enough to fool images that a masked gradient does not."""


@dataclass(frozen=True)
class Masking(Probe):
    """Check, image by image, whether gradients mislead attacks.

    Args:
        sources: models on which transferred examples are made, as for the transfer probe.
        tolerated: share of images that may fail a check.
        overshoot: the same where single steps or the audit attack are compared.
        planes: images around which orthogonal directions are counted.
        lines: lines of the drawn grid of the loss on either side of an image.

    Source:
        Tramer et al. 2018, section 4.1; Athalye et al. 2018; Carlini et al. 2019.

    >>> Masking().question
    'Do masked gradients mislead the attack?'
    """

    sources: Sequence[ModelLike] = ()
    tolerated: float = TOLERATED
    overshoot: float = OVERSHOOT
    planes: int = IN_PLANES
    lines: int = LINES

    thresholds = ("tolerated", "overshoot")
    leasts: ClassVar = {
        "planes": Least(4, "images around which orthogonal directions are counted"),
        "lines": Least(8, "lines of the drawn loss on either side of the image"),
    }
    question = "Do masked gradients mislead the attack?"

    def prepare(self, claim: Claim) -> Self:
        return replace(self, sources=load_others(self.sources, claim.data))

    def provenance(self) -> dict[str, Any]:
        return source_facts(self.sources)

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Conclusion:
        decides = rule(self.tolerated, self.overshoot)
        nothing = partial(Finding, "masking", self.question, "not applicable", decides)
        if is_black_box(claim.model.module):
            why = "The model is a black box, which has no gradients that could be masked."
            return lambda ledger: nothing(why)
        correct = run.map_images("gradients", {}, _health)
        if not len(correct):
            return lambda ledger: nothing(NOTHING_TO_ATTACK)
        all_sources = sources(claim, run, prepared(self.sources))
        others = [source for source in all_sources if source.held_out]
        evidence = self._gather(run, settings, correct, others)
        if settings.plan.clean and any(not check.passed for check in evidence.checks()):
            # the plan missed what a check finds: attack as if the gradient were useless
            attack = Adapted(claim.threat, plan=suspicious(claim), share=settings.share)
            run.attack(attack, what="masking: all means")
        return partial(finding, self.question, evidence)

    def _gather(
        self, run: Run, settings: Settings, gradients: pl.DataFrame, sources: Sequence[Source]
    ) -> Evidence:
        claim, index = run.claim, gradients["index"].to_numpy()
        threat = claim.threat

        def fooled(attack: Attack, size: Threat, what: str, among: Run = run) -> np.ndarray:
            return fallen(among.attack(attack, what=f"masking: {what}"), index, size)

        values = int(np.prod(claim.data.shape))
        everything = 1.0 if threat.norm == "linf" else math.sqrt(values)
        by_size = {}
        for eps in (size * threat.eps for size in SIZES):
            if eps < everything:
                ball = Threat(threat.norm, eps)
                by_size[eps] = fooled(PGD(ball, STEPS[-1]), ball, f"eps {eps:g}")
        # the largest ball contains the same images in every norm; steps in L-inf reach them best
        widest = PGD(Threat("linf", 1.0), steps=50, restarts=2)
        by_size[everything] = fooled(widest, Threat(threat.norm, everything), f"eps {everything:g}")
        by_steps = {
            steps: fooled(IFGSM(threat, steps), threat, f"{steps} steps") for steps in STEPS
        }
        outcomes = {
            "single step": fooled(FGSM(threat), threat, "single step"),
            "random step first": fooled(RandFGSM(threat), threat, "random step first"),
            "iterated": by_steps[STEPS[-1]] | by_size.get(threat.eps, by_size[everything]),
        }
        search, audit_attack = Square(threat, queries=QUERIES), settings.make_attack(threat)
        others = {
            "random search": fooled(search, threat, "random search"),
            "the audit's own": fooled(audit_attack, threat, "the audit's own"),
            **self._transferred(run, threat, sources, index),
        }
        # more starts can change a check only where another attack is ahead of the gradient
        ahead = (
            reduce(np.logical_or, [*outcomes.values(), *others.values()]) & ~outcomes["iterated"]
        )
        subset = run.subset(torch.from_numpy(index[ahead]))
        restarts = PGD(threat, STEPS[-1], restarts=RESTARTS, loss=margin)
        more_fooled = fooled(restarts, threat, "many restarts", subset) if ahead.any() else ahead
        outcomes["many restarts"] = outcomes["iterated"] | more_fooled
        outcomes |= others
        steps, random = self._linearity(run, threat)
        worst = int((steps.single / steps.iterated.clamp_min(1e-30)).nan_to_num(torch.inf).argmin())
        orders, drawn_image = orders_within(values), int(index[worst])
        planes = run.subset(torch.from_numpy(index[: self.planes].copy()))
        return Evidence(
            claim,
            index,
            outcomes,
            by_size,
            by_steps,
            steps,
            random,
            gradients=gradients,
            orders=orders,
            subspace=self._subspace(planes, threat, orders),
            drawn_image=drawn_image,
            surfaces=self._surfaces(run, threat, drawn_image, sources),
            sources=tuple(source.name for source in sources),
            plan=settings.plan,
            tolerated=self.tolerated,
            overshoot=self.overshoot,
        )

    @staticmethod
    def _transferred(
        run: Run, threat: Threat, sources: Sequence[Source], index: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return whether any example of the sources, and the best single step, fools each image."""
        if not sources:
            return {}
        fooled: dict[str, list[np.ndarray]] = {name: [] for name in TRANSFERRED}
        for source in sources:
            for name, flags in fooled.items():
                what = f"masking: {name} on {source.name}"
                records = run.transferred(crafting(threat)[name], source.model, what=what)
                flags.append(fallen(records, index, threat))
        return {
            "transferred": np.any([*itertools.chain(*fooled.values())], axis=0),
            "transferred single step": max(fooled["fgsm"], key=np.sum),
        }

    @staticmethod
    def _linearity(run: Run, threat: Threat) -> tuple[Linearity, np.ndarray]:
        def look(
            model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
        ) -> dict[str, Tensor]:
            linearity = loss_linearity(model, images, labels, threat, **LINEARITY, random=random)
            step = threat.project(images + threat.steepest(random.fork(1).normal(images)), images)
            random_loss = cross_entropy(Oracle(model, labels).logits(step), labels)
            return {**vars(linearity), "random": random_loss}

        table = run.map_images("linearity", {"threat": str(threat), **LINEARITY}, look)
        columns = {
            field.name: torch.from_numpy(table[field.name].to_numpy(writable=True))
            for field in fields(Linearity)
        }
        return Linearity(**columns), table["random"].to_numpy()

    @staticmethod
    def _subspace(run: Run, threat: Threat, orders: tuple[int, ...]) -> np.ndarray:
        def look(
            model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
        ) -> dict[str, Tensor]:
            counts = adversarial_directions(model, images, labels, threat, orders, random)
            return {str(order): counts[:, column] for column, order in enumerate(orders)}

        config = {"threat": str(threat), "orders": list(orders)}
        table = run.map_images("subspace", config, look)
        return table.select(map(str, orders)).to_numpy()

    def _surfaces(
        self, run: Run, threat: Threat, index: int, sources: Sequence[Source]
    ) -> dict[str, pl.DataFrame]:
        """Return the loss around a test image, by view."""
        source = sources[0].model if sources else None

        def draw(reach: float) -> Callable[..., dict[str, Tensor]]:
            def look(
                model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
            ) -> dict[str, Tensor]:
                module = source.module.to(images.device) if source else None
                at, losses = loss_surface(
                    model, images, labels, threat, reach, self.lines, module, random
                )
                e1, e2 = torch.cartesian_prod(at, at).T
                return {"e1": e1, "e2": e2, "loss": losses[0].flatten()}

            return look

        config = {"threat": str(threat), **({} if self.lines == LINES else {"lines": self.lines})}
        image_run = run.subset(torch.tensor([index]))
        return {
            name: image_run.map_images("surface", {**config, "reach": reach}, draw(reach), source)
            for name, reach in {"wide": threat.eps, "close": CLOSE * threat.eps}.items()
        }


def suspicious(claim: Claim) -> Plan:
    """Return the plan for a model whose gradient fails a check for no known reason."""
    values = 1 if claim.threat.norm == "linf" else math.prod(claim.data.shape)
    smoothed = View(draws=8, sigma=claim.threat.eps / math.sqrt(values) / 2)
    return Plan((View(), smoothed), ("checks of the gradient fail",))


def fallen(records: pl.DataFrame, index: np.ndarray, within: Threat) -> np.ndarray:
    """Return which of the test images `index`, ascending, were fooled inside a threat, bool (n,).

    Images that were not attacked, and those that a randomised model misclassified before the
    attack, do not count as fooled.
    """
    fooled = rec.fallen(records, within.eps, within.norm)
    return np.isin(index, records["index"].to_numpy()[fooled])


def _health(
    model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
) -> dict[str, Tensor]:
    health = gradient_health(model, images, labels)
    return {
        **{name: getattr(health, name) for name in FLAGS if name != "flat"},
        "flat": (health.cross_entropy.l1 == 0) & (health.margin.l1 > 0),
        "cross_entropy": health.cross_entropy.l2,
        "margin": health.margin.l2,
    }
