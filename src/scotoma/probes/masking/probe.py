"""Do masked gradients mislead the attack?"""

from __future__ import annotations

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
from scotoma.claim import Claim, Threat
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
from scotoma.probes.masking.checks import OVERSHOOT, TOLERATED
from scotoma.probes.masking.evidence import FLAGS, IN_PLANES, LINES, Evidence
from scotoma.probes.masking.report import finding, rule
from scotoma.probes.robustness.verdict import NOTHING_TO_ATTACK
from scotoma.probes.transfer.probe import crafting
from scotoma.probes.transfer.sources import Source, source_facts, sources
from scotoma.results.finding import Finding
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
        if is_black_box(claim.model.module):
            why = "The model is a black box, which has no gradients that could be masked."
            return lambda ledger: Finding("masking", self.question, "not applicable", decides, why)
        correct = run.map_images("gradients", {}, _health)
        if not len(correct):
            nothing = "not applicable", decides, NOTHING_TO_ATTACK
            return lambda ledger: Finding("masking", self.question, *nothing)
        others = [
            source for source in sources(claim, run, prepared(self.sources)) if source.held_out
        ]
        evidence = self._gather(claim, run, settings, correct, others)
        if settings.plan.clean and any(not check.passed for check in evidence.checks()):
            # the look saw nothing, the checks do: attack as if the gradient were useless
            means = Adapted(claim.threat, plan=suspicious(claim), share=settings.share)
            run.attack(means, what="masking: all means")
        return partial(finding, self.question, evidence)

    def _gather(
        self,
        claim: Claim,
        run: Run,
        settings: Settings,
        gradients: pl.DataFrame,
        sources: Sequence[Source],
    ) -> Evidence:
        threat, index = claim.threat, gradients["index"].to_numpy()

        def fooled(attack: Attack, size: Threat, what: str, among: Run = run) -> np.ndarray:
            return fallen(among.attack(attack, what=f"masking: {what}"), index, size)

        values = int(np.prod(claim.data.shape))
        whole = 1.0 if threat.norm == "linf" else math.sqrt(values)
        balls = [
            Threat(threat.norm, size * threat.eps) for size in SIZES if size * threat.eps < whole
        ]
        by_size = {
            ball.eps: fooled(PGD(ball, STEPS[-1]), ball, f"eps {ball.eps:g}") for ball in balls
        }
        # the largest ball contains the same images in every norm; steps in L-inf reach them best
        by_size[whole] = fooled(
            PGD(Threat("linf", 1.0), steps=50, restarts=2),
            Threat(threat.norm, whole),
            f"eps {whole:g}",
        )
        by_steps = {
            steps: fooled(IFGSM(threat, steps), threat, f"{steps} steps") for steps in STEPS
        }
        weak = {"single step": FGSM(threat), "random step first": RandFGSM(threat)}
        others = {
            "random search": Square(threat, queries=QUERIES),
            "the audit's own": settings.make_attack(threat),
        }
        broken = {name: fooled(attack, threat, name) for name, attack in weak.items()}
        broken["iterated"] = by_steps[STEPS[-1]] | by_size.get(threat.eps, by_size[whole])
        rest = {name: fooled(attack, threat, name) for name, attack in others.items()}
        rest |= self._transferred(run, threat, sources, index)
        # more starts can change a check only where another attack is ahead of the gradient
        ahead = reduce(np.logical_or, [*broken.values(), *rest.values()]) & ~broken["iterated"]
        few = run.subset(torch.from_numpy(index[ahead]))
        restarts = PGD(threat, STEPS[-1], restarts=RESTARTS, loss=margin)
        found = fooled(restarts, threat, "many restarts", few) if ahead.any() else ahead
        broken["many restarts"] = broken["iterated"] | found
        broken |= rest
        steps, random = self._linearity(run, threat)
        worst = int((steps.single / steps.iterated.clamp_min(1e-30)).nan_to_num(torch.inf).argmin())
        orders = orders_within(values)
        return Evidence(
            claim,
            index,
            broken,
            by_size,
            by_steps,
            steps,
            random,
            gradients=gradients,
            orders=orders,
            subspace=self._subspace(
                run.subset(torch.from_numpy(index[: self.planes].copy())), claim, orders
            ),
            drawn=int(index[worst]),
            surfaces=self._surfaces(run, claim, int(index[worst]), sources, self.lines),
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
        single, every = [], []
        for source in sources:
            for name in TRANSFERRED:
                attack = crafting(threat)[name]
                records = run.transferred(
                    attack, source.model, what=f"masking: {name} on {source.name}"
                )
                every.append(fallen(records, index, threat))
                if name == "fgsm":
                    single.append(every[-1])
        best = max(single, key=np.sum)
        return {
            "transferred": reduce(np.logical_or, every, np.zeros(len(index), dtype=bool)),
            "transferred single step": best,
        }

    @staticmethod
    def _linearity(run: Run, threat: Threat) -> tuple[Linearity, np.ndarray]:
        def look(
            model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
        ) -> dict[str, Tensor]:
            found = loss_linearity(model, images, labels, threat, **LINEARITY, random=random)
            step = threat.project(images + threat.steepest(random.fork(1).normal(images)), images)
            beside = cross_entropy(Oracle(model, labels).logits(step), labels)
            return {**vars(found), "random": beside}

        table = run.map_images("linearity", {"threat": str(threat), **LINEARITY}, look)
        held = {
            field.name: torch.from_numpy(table[field.name].to_numpy(writable=True))
            for field in fields(Linearity)
        }
        return Linearity(**held), table["random"].to_numpy()

    @staticmethod
    def _subspace(few: Run, claim: Claim, orders: tuple[int, ...]) -> np.ndarray:
        def look(
            model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
        ) -> dict[str, Tensor]:
            counts = adversarial_directions(model, images, labels, claim.threat, orders, random)
            return {str(order): counts[:, column] for column, order in enumerate(orders)}

        table = few.map_images(
            "subspace", {"threat": str(claim.threat), "orders": list(orders)}, look
        )
        return table.select(map(str, orders)).to_numpy()

    @staticmethod
    def _surfaces(
        run: Run, claim: Claim, index: int, sources: Sequence[Source], lines: int
    ) -> dict[str, pl.DataFrame]:
        """Return the loss around a test image, by view."""
        source = sources[0].model if sources else None

        def draw(reach: float) -> Callable[..., dict[str, Tensor]]:
            def look(
                model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
            ) -> dict[str, Tensor]:
                module = source.module.to(images.device) if source else None
                at, losses = loss_surface(
                    model, images, labels, claim.threat, reach, lines, module, random
                )
                e1, e2 = torch.cartesian_prod(at, at).T
                return {"e1": e1, "e2": e2, "loss": losses[0].flatten()}

            return look

        fewer = {} if lines == LINES else {"lines": lines}
        reaches = {"wide": claim.threat.eps, "close": CLOSE * claim.threat.eps}
        here = run.subset(torch.tensor([index]))
        return {
            name: here.map_images(
                "surface",
                {"threat": str(claim.threat), "reach": reach, **fewer},
                draw(reach),
                source,
            )
            for name, reach in reaches.items()
        }


def suspicious(claim: Claim) -> Plan:
    """Return the plan for a model whose gradient fails a check though nothing is known of it."""
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
    found = gradient_health(model, images, labels)
    flags = {name: getattr(found, name) for name in FLAGS if name != "flat"}
    flat = (found.cross_entropy.l1 == 0) & (found.margin.l1 > 0)
    return {
        **flags,
        "flat": flat,
        "cross_entropy": found.cross_entropy.l2,
        "margin": found.margin.l2,
    }
